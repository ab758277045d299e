-- The audit log: each line linked to the one before it.
CREATE TABLE audit (
  seq   INTEGER PRIMARY KEY,
  until INTEGER NOT NULL, -- 0: it is never removed
  link  BLOB NOT NULL,
  body  BLOB NOT NULL
) STRICT;
