-- Removes events that nobody can need any more. Begins with trim.lua.
-- KEYS: the stream
-- ARGV: now (ns), how many at most
-- Returns how many.
return trim(tonumber(ARGV[1]), tonumber(ARGV[2]))
