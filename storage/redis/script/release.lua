-- Gives a user name back, if its entry still is the one that was read.
-- KEYS: the names' entries, the names in order
-- ARGV: name, entry
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return DONE
