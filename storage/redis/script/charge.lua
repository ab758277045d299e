-- Charges token buckets. A bucket is when it is full again, in microseconds; one
-- that is not there is full.
-- KEYS: the buckets, all of one slot
-- ARGV: what to charge each, in microseconds
-- Returns how long each then needs to be full again, in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local backlogs = {}
for i, key in ipairs(KEYS) do
  local full = math.max(tonumber(redis.call('GET', key) or now), now) + ARGV[i]
  redis.call('SET', key, string.format('%.0f', full), 'PXAT', math.ceil(full / 1000))
  backlogs[i] = full - now
end
return backlogs
