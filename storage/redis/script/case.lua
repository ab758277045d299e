-- Puts a case in the place of the one whose version was read, or of none.
-- KEYS: the case
-- ARGV: version that was read, or nothing; value; life in ms; again
local there = redis.call('GET', KEYS[1]) or ''
if string.sub(there, 1, 8) ~= ARGV[1] and not (ARGV[4] == '1' and there == ARGV[2]) then
  return CONFLICT
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return DONE
