-- Shows that the server writes.
-- KEYS: what is written
redis.call('SET', KEYS[1], '1', 'PX', 60000)
return DONE
