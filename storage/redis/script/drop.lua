-- Removes sessions of a user who is gone.
-- KEYS: the user's index, the sessions
-- ARGV: their members of the index
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('ZREM', KEYS[1], ARGV[i - 1])
end
return DONE
