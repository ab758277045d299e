-- Revokes a grant. Begins with grant.lua.
-- KEYS: the grant
-- ARGV: at (8 bytes), reason
local atS, atN = struct.unpack('>I4I4', ARGV[1])
revoke(atS, atN, ARGV[2])
return DONE
