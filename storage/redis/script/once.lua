-- Remembers that something was used, until it expires.
-- KEYS: what it is remembered by
-- ARGV: life in ms
if redis.call('SET', KEYS[1], '', 'PX', ARGV[1], 'NX') then
  return DONE
end
return EXISTS
