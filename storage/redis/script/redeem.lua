-- Redeems the code of a grant. Begins with grant.lua.
-- KEYS: the grant, its user's index
-- ARGV: at, idle expiry, expiry (8 bytes each); reason if it was used before;
--       life in ms; member of the index; its score; thumbprint, or nothing
local atS, atN, nextS, nextN, endS, endN = struct.unpack('>I4I4I4I4I4I4', ARGV[1])
if redeemedS ~= 0 or redeemedN ~= 0 then
  revoke(atS, atN, ARGV[2])
  return REUSED
end
if revokedS ~= 0 or revokedN ~= 0 then
  return REVOKED
end
if not before(atS, atN, codeS, codeN) then
  return EXPIRED
end
redis.call('SETRANGE', KEYS[1], 1, struct.pack('>I4I4I4I4I4I4I4I4I4I4',
  atS, atN, 0, 1, 0, 0, nextS, nextN, endS, endN))
if ARGV[6] ~= '' then
  redis.call('SETRANGE', KEYS[1], 61, ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return DONE
