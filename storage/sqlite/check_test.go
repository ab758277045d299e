package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage"
)

func TestCheckFinds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	if err := s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ damage, repair, says string }{
		{"UPDATE grants SET jkt = x'01'", "UPDATE grants SET jkt = x''", `grant's key "u.s.g": 1 bytes, 32 expected`},
		{"UPDATE grants SET data = x'02ff'", "DELETE FROM grants", `grant "u.s.g": a record is damaged`},
		{"UPDATE users SET data = CAST(replace(CAST(data AS TEXT), 'alice', 'bob') AS BLOB)", "UPDATE users SET name = 'bob'", `user name "u": the column is another`},
		{"UPDATE users SET data = x'7b'", "DELETE FROM users", `user "u": `},
		{"INSERT INTO replays VALUES (x'0a', 1)", "DELETE FROM replays", `replay's key "0A": 1 bytes, 32 expected`},
		{"INSERT INTO events VALUES (7, 1, x'7b')", "DELETE FROM events", `event "7": `},
		{"INSERT INTO events VALUES (7, 1, CAST('{\"id\":\"x\",\"until\":\"2026-11-23T12:00:00Z\"}' AS BLOB))", "DELETE FROM events", `event that ends at "1": the column is another`},
		{"INSERT INTO cases VALUES ('u', 1, 1, x'7b')", "DELETE FROM cases", `case "u": `},
		{"INSERT INTO cases VALUES ('u', 0, 1, CAST('{\"user\":\"u\"}' AS BLOB))", "DELETE FROM cases", `case "u": case of user "u": it never expires`},
		{"INSERT INTO cases VALUES ('u', 1795435200000000000, 1, CAST('{\"user\":\"w\",\"expires\":\"2026-11-23T12:00:00Z\"}' AS BLOB))", "DELETE FROM cases", `case's user "u": the column is another`},
		{"INSERT INTO cases VALUES ('u', 1, 1, CAST('{\"user\":\"u\",\"expires\":\"2026-11-23T12:00:00Z\"}' AS BLOB))", "DELETE FROM cases", `case that expires at "1": the column is another`},
		{"INSERT INTO key_ring VALUES (1, 1, x'00')", "DELETE FROM key_ring", `key ring "1": `},
	} {
		if _, err := db.Exec(c.damage); err != nil {
			t.Fatalf("%s: %v", c.damage, err)
		}
		var problems []string
		if err := s.Check(t.Context(), func(p string) { problems = append(problems, p) }); err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], c.says) {
			t.Errorf("after %s: %q, %v", c.damage, problems, err)
		}
		if _, err := db.Exec(c.repair); err != nil {
			t.Fatal(err)
		}
	}
}
