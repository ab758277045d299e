-- KEYS[1] is a bucket, ARGV[1] what to charge it, in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PXAT', math.ceil(full / 1000))
return full - now
