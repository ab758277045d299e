-- Reserves a user name. An entry is "deadline:nonce:user"; before its deadline
-- nobody else takes it, whether or not there is such a user yet.
-- KEYS: the names' entries, the names in order
-- ARGV: name, user, nonce, seconds until the deadline, entry to take over
-- Returns the entry that is there now.
local now = tonumber(redis.call('TIME')[1])
local there = redis.call('HGET', KEYS[1], ARGV[1])
if there then
  local deadline, nonce = string.match(there, '^(%d+):(%w+):')
  if nonce == ARGV[3] then
    redis.call('HSET', KEYS[1], ARGV[1], there) -- to wait for, see grant.lua
    return there
  end
  if there ~= ARGV[5] or now <= tonumber(deadline) then
    return there
  end
end
local entry = (now + tonumber(ARGV[4])) .. ':' .. ARGV[3] .. ':' .. ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], entry)
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return entry
