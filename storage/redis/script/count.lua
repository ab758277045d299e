-- Counts.
-- KEYS: the counter of this window, that of the one before
-- ARGV: how much, life in ms
local current
if ARGV[1] == '0' then
  current = redis.call('GET', KEYS[1])
else
  current = redis.call('INCRBY', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {tonumber(current or 0), tonumber(redis.call('GET', KEYS[2]) or 0)}
