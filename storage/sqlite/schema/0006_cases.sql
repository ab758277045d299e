-- What is known of an account that resource servers report, one row for each.
CREATE TABLE cases (
  user    TEXT PRIMARY KEY,
  expires INTEGER NOT NULL,
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX cases_expires ON cases (expires);
