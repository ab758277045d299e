package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// tables are what Check reads, and what each row must be.
var tables = []struct {
	name, query string
	check       func(id string, data []byte) error
}{
	{"client", "SELECT id, data FROM clients", decodes[clients.Client]},
	{"resource server", "SELECT id, data FROM resource_servers", decodes[clients.ResourceServer]},
	{"user", "SELECT id, data FROM users", decodes[storage.User]},
	{"key ring", "SELECT CAST(id AS TEXT), data FROM key_ring", decodes[storage.KeyRing]},
	{"session", "SELECT id, data FROM sessions", func(id string, data []byte) error {
		_, err := record.DecodeSession(storage.SessionID(id), data)
		return err
	}},
	{"grant", "SELECT id, data FROM grants", func(id string, data []byte) error {
		_, err := record.DecodeGrant(storage.GrantID(id), data)
		return err
	}},
	{"event", "SELECT CAST(seq AS TEXT), data FROM events", decodes[storage.Event]},
	{"case", "SELECT user, data FROM cases", func(_ string, data []byte) error {
		var c storage.Case
		if err := json.Unmarshal(data, &c); err != nil {
			return err
		}
		return c.Bounded()
	}},
	{"grant's key", "SELECT id, jkt FROM grants WHERE jkt <> x''", thumbprint},
	{"replay's key", "SELECT hex(key), key FROM replays", thumbprint},
	// What a condition reads from a column and a caller from the record is
	// the same.
	{"user name", "SELECT id, data FROM users WHERE json_valid(CAST(data AS TEXT)) AND json_extract(CAST(data AS TEXT), '$.name') <> name", disagrees},
	{"case's user", "SELECT user, data FROM cases WHERE json_valid(CAST(data AS TEXT)) AND json_extract(CAST(data AS TEXT), '$.user') <> user", disagrees},
	{"case that expires at", "SELECT CAST(expires AS TEXT), data FROM cases", func(expires string, data []byte) error {
		var c storage.Case
		if err := json.Unmarshal(data, &c); err != nil || strconv.FormatInt(record.Nanos(c.Expires), 10) == expires {
			return nil // or it was told above
		}
		return disagrees("", nil)
	}},
	{"session's user", "SELECT id, data FROM sessions WHERE substr(id, 1, length(user) + 1) <> user || '.'", disagrees},
	{"event that ends at", "SELECT CAST(until AS TEXT), data FROM events WHERE json_valid(CAST(data AS TEXT))", func(until string, data []byte) error {
		var e storage.Event
		if err := json.Unmarshal(data, &e); err != nil || strconv.FormatInt(record.Nanos(e.Until), 10) == until {
			return nil // or it was told above
		}
		return disagrees("", nil)
	}},
	{"grant's session", "SELECT id, data FROM grants WHERE substr(id, 1, length(session) + 1) <> session || '.'", disagrees},
}

func decodes[R any](_ string, data []byte) error {
	var r R
	return json.Unmarshal(data, &r)
}

// thumbprint is of 32 bytes, like what is used once.
func thumbprint(_ string, b []byte) error {
	if len(b) != 32 {
		return fmt.Errorf("%d bytes, 32 expected", len(b))
	}
	return nil
}

func disagrees(string, []byte) error { return errors.New("the column is another than the record") }

// Check implements [storage.Store]: SQLite's own check of the whole file, and
// every record is read.
func (s *Store) Check(ctx context.Context, problem func(string)) error {
	rows, err := s.reading.QueryContext(ctx, "PRAGMA integrity_check")
	if err != nil {
		return s.unavailable(err)
	}
	if err := each(rows, func() error {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			problem("file: " + line)
		}
		return nil
	}); err != nil {
		return s.unavailable(err)
	}
	for _, t := range tables {
		rows, err := s.reading.QueryContext(ctx, t.query)
		if err != nil {
			return s.unavailable(err)
		}
		if err := each(rows, func() error {
			var id string
			var data []byte
			if err := rows.Scan(&id, &data); err != nil {
				return err
			}
			if err := t.check(id, data); err != nil {
				problem(fmt.Sprintf("%s %q: %v", t.name, id, err))
			}
			return nil
		}); err != nil {
			return s.unavailable(err)
		}
	}
	return s.checkAudit(ctx, problem)
}

// each calls do for every row and closes them.
func each(rows *sql.Rows, do func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := do(); err != nil {
			return err
		}
	}
	return rows.Err()
}
