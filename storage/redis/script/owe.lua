-- Adds logouts to the queue.
-- KEYS: the logouts, their members by when they are due
-- ARGV: life in ms; of each its member, value and score
for i = 2, #ARGV, 3 do
  -- One that is there stays as it is, and is written, too: a caller that waits
  -- for the replicas waits for what it wrote itself.
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  redis.call('HSET', KEYS[1], ARGV[i], there or ARGV[i + 1])
  if not there then
    redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i])
  end
end
for i = 1, 2 do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
  end
end
return DONE
