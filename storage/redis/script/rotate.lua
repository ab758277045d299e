-- Rotates the refresh token of a grant. Begins with grant.lua.
-- KEYS: the grant; until when the user gets no other refresh, if that is asked
-- ARGV: at, generation, begin of the grace window, idle expiry (8 bytes each);
--       reason if it is reuse; something if the generation stays; if it is the
--       user's only one, until when that is (8 bytes) and which it is, the life
--       of that in ms, and again
local atS, atN, fromH, fromL, graceS, graceN, nextS, nextN =
  struct.unpack('>I4I4I4I4I4I4I4I4', ARGV[1])
if redeemedS == 0 and redeemedN == 0 then
  return NOT_FOUND
end
if revokedS ~= 0 or revokedN ~= 0 then
  return REVOKED
end
if not before(atS, atN, expiresS, expiresN) or not before(atS, atN, idleS, idleN) then
  return EXPIRED
end
local generation, from = generationH * 4294967296 + generationL, fromH * 4294967296 + fromL
if from == generation then
  if ARGV[4] then
    local only = redis.call('GET', KEYS[2])
    local own = only == ARGV[4] and ARGV[6] == '1'
    if only and not own and before(atS, atN, struct.unpack('>I4I4', only)) then
      return TOO_SOON
    end
    redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
  end
  if ARGV[3] == '' then
    generation, rotatedS, rotatedN = generation + 1, atS, atN
  end
  if before(idleS, idleN, nextS, nextN) then
    idleS, idleN = nextS, nextN
  end
  redis.call('SETRANGE', KEYS[1], 9, struct.pack('>I4I4I4I4I4I4',
    math.floor(generation / 4294967296), generation % 4294967296, rotatedS, rotatedN, idleS, idleN))
  return DONE
end
if from > generation then
  return NOT_FOUND
end
if from + 1 == generation and not before(rotatedS, rotatedN, graceS, graceN) then
  again()
  return DONE
end
revoke(atS, atN, ARGV[2])
return REUSED
