-- Appends events to the stream, in order. Begins with trim.lua.
-- KEYS: the stream
-- ARGV: now (ns); of each event its ten values, the last of which may be empty
for i = 2, #ARGV, 10 do
  local entry = {'i', ARGV[i], 'k', ARGV[i + 1], 's', ARGV[i + 2], 'e', ARGV[i + 3], 'b', ARGV[i + 4],
    'u', ARGV[i + 5], 'r', ARGV[i + 6], 'a', ARGV[i + 7], 'l', ARGV[i + 8]}
  if ARGV[i + 9] ~= '' then
    entry[19], entry[20] = 'p', ARGV[i + 9]
  end
  redis.call('XADD', KEYS[1], '*', unpack(entry))
end
-- More than come, so that what is dead gets less.
trim(tonumber(ARGV[1]), 16 + 2 * math.floor(#ARGV / 10))
return DONE
