-- What is in front of the scripts that remove events. An entry is the fields
-- i, k, s, e, b, u, r, a, l, see event.go, always in this order.

-- Nobody can need an event any more when both clocks say so: the callers', that
-- it is past Until, and this server's, that it was there for so long. Either
-- may be wrong for a while, and an end must not be forgotten because of it.
local function gone(entry, now, clock)
  local since = tonumber(string.match(entry[1], '^%d+'))
  return since + (tonumber(entry[2][18]) or 0) <= clock and (tonumber(entry[2][12]) or 0) <= now
end

-- Removes at most so many from the begin, and never the last one: a reader
-- whose event is behind it must learn that it was lost.
local function trim(now, most)
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local time = redis.call('TIME')
  local clock = time[1] * 1000 + math.floor(time[2] / 1000)
  if not first or not gone(first, now, clock) then
    return 0
  end
  local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', most + 1)
  local n = 0
  while n < #entries - 1 and gone(entries[n + 1], now, clock) do
    n = n + 1
  end
  if n > 0 then
    redis.call('XTRIM', KEYS[1], 'MINID', '=', entries[n + 1][1])
  end
  return n
end

