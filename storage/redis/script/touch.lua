-- Moves a session's last use and idle expiry forward, or ends it.
-- KEYS: the session
-- ARGV: last use, idle expiry, end (8 bytes each; no end: zero)
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if #head < 24 then
  return NOT_FOUND
end
local seenS, seenN, idleS, idleN, endS, endN = struct.unpack('>I4I4I4I4I4I4', head)
if endS == 0 and endN == 0 then
  local s1, n1, s2, n2, s3, n3 = struct.unpack('>I4I4I4I4I4I4', ARGV[1])
  if s1 > seenS or (s1 == seenS and n1 > seenN) then
    seenS, seenN = s1, n1
  end
  if s2 > idleS or (s2 == idleS and n2 > idleN) then
    idleS, idleN = s2, n2
  end
  endS, endN = s3, n3
end
redis.call('SETRANGE', KEYS[1], 0, struct.pack('>I4I4I4I4I4I4', seenS, seenN, idleS, idleN, endS, endN))
return DONE
