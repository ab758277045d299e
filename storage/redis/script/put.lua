-- Creates a session or a grant, which expires.
-- KEYS: the record, its user's index
-- ARGV: value, life in ms, member of the index, its score, the score below
--       which others are gone, again
local there = redis.call('GET', KEYS[1])
if there and not (ARGV[6] == '1' and there == ARGV[1]) then
  return EXISTS
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return DONE
