-- Removes lines from the begin of the audit log: those behind which there is one
-- that is past its time, too. That one stays, and proves that the others were.
-- KEYS: the stream
-- ARGV: now (ns), how many at most
-- Returns how many.
local now = tonumber(ARGV[1])
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)
local function gone(entry)
  local till = tonumber(entry[2][2]) or 0
  return till ~= 0 and till <= now
end
if #first < 2 or not gone(first[2]) then
  return 0
end
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', tonumber(ARGV[2]) + 1)
local n = 0
while n < #entries and gone(entries[n + 1]) do
  n = n + 1
end
if n < 2 then
  return 0
end
redis.call('XTRIM', KEYS[1], 'MINID', '=', entries[n][1])
return n - 1
