-- Makes a logout due at another time.
-- KEYS: the logouts, their members by when they are due
-- ARGV: member, when (8 bytes), its score
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
  redis.call('HSET', KEYS[1], ARGV[1], string.sub(value, 1, 4) .. ARGV[2] .. string.sub(value, 13))
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
end
return DONE
