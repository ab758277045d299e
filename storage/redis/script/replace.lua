-- Replaces a record whose version is the one that was read.
-- KEYS: the record
-- ARGV: version that was read, value, again, name, fence
-- name is the length and the name that a user's record must have already, or
-- nothing: a name is changed only by whoever holds a reservation (fence).
if ARGV[5] ~= '' and tonumber(redis.call('TIME')[1]) >= tonumber(ARGV[5]) then
  return LATE
end
local there = redis.call('GET', KEYS[1])
if not there then
  return NOT_FOUND
end
if not (ARGV[3] == '1' and there == ARGV[2]) then
  if string.sub(there, 1, 8) ~= ARGV[1] then
    return CONFLICT
  end
  if ARGV[4] ~= '' and string.sub(there, 9, 8 + #ARGV[4]) ~= ARGV[4] then
    return RENAMED
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return DONE
