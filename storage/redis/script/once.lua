-- Remembers what was used.
-- KEYS: the record
-- ARGV: life in ms
if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then
  return EXISTS
end
return DONE
