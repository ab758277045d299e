-- Claims logouts that are due, and removes those that nobody tries any more. A
-- logout is its attempts, when it is due, was made and expires (8 bytes each).
-- KEYS: the logouts, their members by when they are due
-- ARGV: now, when they are due again (8 bytes each); the scores of both; how
--       many; how many that are removed it looks at besides
-- Returns members and values by turns.
local nowS, nowN = struct.unpack('>I4I4', ARGV[1])
local limit = tonumber(ARGV[5])
local claimed, gone = {}, {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3], 'LIMIT', 0, limit + ARGV[6])) do
  if #claimed == 2 * limit then
    break
  end
  local value = redis.call('HGET', KEYS[1], member)
  if not value or #value ~= 28 then
    gone[#gone + 1] = member
  else
    local attempts, dueS, dueN, _, _, endS, endN = struct.unpack('>I4I4I4I4I4I4I4', value)
    if endS < nowS or (endS == nowS and endN <= nowN) then
      gone[#gone + 1] = member
    elseif dueS < nowS or (dueS == nowS and dueN <= nowN) then -- a score is less exact
      claimed[#claimed + 1] = member
      claimed[#claimed + 1] = struct.pack('>I4', attempts + 1) .. ARGV[2] .. string.sub(value, 13)
    end
  end
end
for _, member in ipairs(gone) do
  redis.call('HDEL', KEYS[1], member)
  redis.call('ZREM', KEYS[2], member)
end
for i = 1, #claimed, 2 do
  redis.call('HSET', KEYS[1], claimed[i], claimed[i + 1])
  redis.call('ZADD', KEYS[2], ARGV[4], claimed[i])
end
return claimed
