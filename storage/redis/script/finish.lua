-- Removes a logout.
-- KEYS: the logouts, their members by when they are due
-- ARGV: member
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  redis.call('HSET', KEYS[1], ARGV[1], '') -- to wait for, see grant.lua
  redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('ZREM', KEYS[2], ARGV[1])
return DONE
