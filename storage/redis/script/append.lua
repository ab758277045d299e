-- Appends events to the stream, in order.
-- KEYS: the stream
-- ARGV: life in ms; what is past Until at, in ms; of each event its record and Until in ms
for i = 3, #ARGV, 2 do
  redis.call('XADD', KEYS[1], '*', 'd', ARGV[i], 'u', ARGV[i + 1])
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
-- A few of the oldest that nothing can need: more than come.
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', #ARGV + 16)) do
  if tonumber(entry[2][4]) > tonumber(ARGV[2]) then
    break
  end
  redis.call('XDEL', KEYS[1], entry[1])
end
return DONE
