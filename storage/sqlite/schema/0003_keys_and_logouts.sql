-- The thumbprint of the key that a grant is bound to, 32 bytes, or none.
ALTER TABLE grants ADD COLUMN jkt BLOB NOT NULL DEFAULT x'';

-- What may be used once, until expires.
CREATE TABLE replays (
  key     BLOB PRIMARY KEY,
  expires INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX replays_expires ON replays (expires);

-- The queue of logout tokens. Each is claimed in one transaction with the
-- change of due_at, so no two servers have it.
CREATE TABLE logouts (
  session    TEXT NOT NULL,
  client     TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  attempts   INTEGER NOT NULL,
  due_at     INTEGER NOT NULL,
  expires    INTEGER NOT NULL,
  PRIMARY KEY (session, client)
) WITHOUT ROWID, STRICT;
CREATE INDEX logouts_due ON logouts (due_at);
CREATE INDEX logouts_expires ON logouts (expires);
