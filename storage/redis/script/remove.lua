-- Removes a record.
-- KEYS: the record; its index if it has a member there; what goes with it
-- ARGV: member of the index, again
local n = redis.call('DEL', KEYS[1])
local with = 2
if ARGV[1] ~= '' then
  n = n + redis.call('ZREM', KEYS[2], ARGV[1])
  with = 3
end
for i = with, #KEYS do
  redis.call('DEL', KEYS[i])
end
if n == 0 then
  if ARGV[2] ~= '1' then
    return NOT_FOUND
  end
  redis.call('SET', KEYS[1], '') -- to wait for, see grant.lua
  redis.call('DEL', KEYS[1])
end
return DONE
