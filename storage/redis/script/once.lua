-- Stores what is stored once, and expires.
-- KEYS: the record
-- ARGV: value, life in ms, again
local there = redis.call('GET', KEYS[1])
if there and not (ARGV[3] == '1' and there == ARGV[1]) then
  return EXISTS
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return DONE
