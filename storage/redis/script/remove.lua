-- Removes a record.
-- KEYS: the record, and its index if it has one
-- ARGV: member of the index, again
local n = redis.call('DEL', KEYS[1])
if KEYS[2] then
  n = n + redis.call('ZREM', KEYS[2], ARGV[1])
end
if n == 0 then
  if ARGV[2] ~= '1' then
    return NOT_FOUND
  end
  redis.call('SET', KEYS[1], '') -- to wait for, see grant.lua
  redis.call('DEL', KEYS[1])
end
return DONE
