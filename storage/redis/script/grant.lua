-- What is in front of a grant's data and changes, see record.go. A time is two
-- numbers, seconds and nanoseconds: one would not be exact in a double.
local function before(s1, n1, s2, n2)
  return s1 < s2 or (s1 == s2 and n1 < n2)
end

local head = redis.call('GETRANGE', KEYS[1], 0, 60)
if #head < 61 then
  return NOT_FOUND
end
local _, redeemedS, redeemedN, generationH, generationL, rotatedS, rotatedN,
  idleS, idleN, expiresS, expiresN, revokedS, revokedN, codeS, codeN =
  struct.unpack('>BI4I4I4I4I4I4I4I4I4I4I4I4I4I4', head)

-- What changes nothing is written, too: a caller that waits for the replicas
-- waits for what it wrote itself.
local function again()
  redis.call('SETRANGE', KEYS[1], 0, head)
end

local function revoke(s, n, reason)
  if revokedS ~= 0 or revokedN ~= 0 then
    return again()
  end
  redis.call('SETRANGE', KEYS[1], 41, struct.pack('>I4I4', s, n))
  redis.call('APPEND', KEYS[1], reason)
end
