-- Identifiers of sessions and grants begin with their user's from here on, and
-- their records no longer repeat them. Those of before end: people sign in
-- once more.
DELETE FROM grants;
DELETE FROM sessions;
