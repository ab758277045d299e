-- What stopped being valid, in order, until the last token that it hits has
-- expired.
CREATE TABLE events (
  seq   INTEGER PRIMARY KEY,
  until INTEGER NOT NULL,
  data  BLOB NOT NULL
) STRICT;
