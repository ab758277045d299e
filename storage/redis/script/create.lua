-- Creates a record that is replaced by compare-and-swap.
-- KEYS: the record, and its index if it has one
-- ARGV: value, member of the index, again, fence
if ARGV[4] ~= '' and tonumber(redis.call('TIME')[1]) >= tonumber(ARGV[4]) then
  return LATE
end
local there = redis.call('GET', KEYS[1])
if there and not (ARGV[3] == '1' and there == ARGV[1]) then
  return EXISTS
end
redis.call('SET', KEYS[1], ARGV[1])
if KEYS[2] then
  redis.call('ZADD', KEYS[2], 0, ARGV[2])
end
return DONE
