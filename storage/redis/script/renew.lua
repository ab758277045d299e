-- Puts a session in the place of the one that is there, unless that was ended.
-- Its last use and its idle expiry never move back.
-- KEYS: the session, its user's index
-- ARGV: value, life in ms, member of the index, its score
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if #head < 24 then
  return NOT_FOUND
end
local seenS, seenN, idleS, idleN, endS, endN = struct.unpack('>I4I4I4I4I4I4', head)
if endS ~= 0 or endN ~= 0 then
  return NOT_FOUND
end
local s1, n1, s2, n2 = struct.unpack('>I4I4I4I4', ARGV[1])
if s1 > seenS or (s1 == seenS and n1 > seenN) then
  seenS, seenN = s1, n1
end
if s2 > idleS or (s2 == idleS and n2 > idleN) then
  idleS, idleN = s2, n2
end
redis.call('SET', KEYS[1], struct.pack('>I4I4I4I4', seenS, seenN, idleS, idleN) .. string.sub(ARGV[1], 17), 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return DONE
