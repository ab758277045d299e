-- Appends lines to the audit log, behind the line that the caller has seen last,
-- or not at all. An entry is the fields u (until, in nanoseconds), l (link) and
-- b (body), always in this order; its identifier is the line's number.
-- KEYS: the stream
-- ARGV: the number and the link of the line before; whether it is asked again;
--   of each line its number, until, link and body
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and (last[1] ~= ARGV[1] .. '-0' or last[2][4] ~= ARGV[2]) then
  if ARGV[3] == '1' then
    -- Its own doing of before: all or none of the lines are there.
    local own = redis.call('XRANGE', KEYS[1], ARGV[4] .. '-0', ARGV[4] .. '-0')[1]
    if own and own[2][4] == ARGV[6] and own[2][6] == ARGV[7] then
      redis.call('XSETID', KEYS[1], last[1]) -- a write, for the replicas to have it counts from the last one
      return DONE
    end
  end
  return CONFLICT
end
for i = 4, #ARGV, 4 do
  local id = ARGV[i] .. '-0'
  local added = redis.pcall('XADD', KEYS[1], id, 'u', ARGV[i + 1], 'l', ARGV[i + 2], 'b', ARGV[i + 3])
  if type(added) == 'table' and added.err then
    -- A stream remembers the highest identifier, also of lines that somebody has
    -- cut off; the log goes on all the same, and its numbers show it.
    if i > 4 or not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
    redis.call('XSETID', KEYS[1], ARGV[1] .. '-0')
    redis.call('XADD', KEYS[1], id, 'u', ARGV[i + 1], 'l', ARGV[i + 2], 'b', ARGV[i + 3])
  end
end
return DONE
