-- Removes a logout.
-- KEYS: the logouts, their members by when they are due
-- ARGV: member
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return DONE
