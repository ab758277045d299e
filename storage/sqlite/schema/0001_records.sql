-- The first schema. Each migration runs in one transaction together with the
-- change of user_version, so a crash leaves either the old schema or the new.
--
-- Times are nanoseconds since the Unix epoch, 0 for none. data is the record
-- as JSON; the columns beside it are what conditions, order and frequent
-- changes need, and win over data when a record is read.

CREATE TABLE clients (
  id      TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE resource_servers (
  id      TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE users (
  id      TEXT PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE sessions (
  id           TEXT PRIMARY KEY,
  user         TEXT NOT NULL,
  last_seen    INTEGER NOT NULL,
  idle_expires INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  ended_at     INTEGER NOT NULL,
  data         BLOB NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX sessions_user ON sessions (user, id);
CREATE INDEX sessions_expires ON sessions (expires);

-- A refresh changes integers in place and no index: the row does not grow and
-- no other page is written.
CREATE TABLE grants (
  id           TEXT PRIMARY KEY,
  user         TEXT NOT NULL,
  session      TEXT NOT NULL,
  client       TEXT NOT NULL,
  code_expires INTEGER NOT NULL,
  redeemed_at  INTEGER NOT NULL,
  generation   INTEGER NOT NULL,
  rotated_at   INTEGER NOT NULL,
  idle_expires INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  revoked_at   INTEGER NOT NULL,
  revoked_for  TEXT NOT NULL,
  data         BLOB NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX grants_user ON grants (user, id);
CREATE INDEX grants_expires ON grants (expires);

CREATE TABLE key_ring (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) STRICT;

-- A counter of a window; part is the number of windows since the epoch.
CREATE TABLE counters (
  key     TEXT NOT NULL,
  length  INTEGER NOT NULL,
  part    INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  PRIMARY KEY (key, length, part)
) WITHOUT ROWID, STRICT;
CREATE INDEX counters_expires ON counters (expires);
