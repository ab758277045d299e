-- Puts a user into the order of cases, for as long as the case is there at most,
-- and takes a few out of it whose cases are gone.
-- KEYS: the users in order, the users by when their cases are gone
-- ARGV: user, life in ms
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', clock, 'LIMIT', 0, 16)) do
  redis.call('ZREM', KEYS[1], user)
  redis.call('ZREM', KEYS[2], user)
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', clock + ARGV[2], ARGV[1])
for i = 1, 2 do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
return DONE
