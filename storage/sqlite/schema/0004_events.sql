-- What stopped being valid, in order, until the last token that it hits has
-- expired. AUTOINCREMENT: SQLite remembers the greatest seq there ever was.
CREATE TABLE events (
  seq   INTEGER PRIMARY KEY AUTOINCREMENT,
  until INTEGER NOT NULL,
  data  BLOB NOT NULL
) STRICT;
CREATE INDEX events_until ON events (until);
