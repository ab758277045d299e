package sqlite_test

import (
	"database/sql"
	"fmt"
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
	var before storage.AuditHead
	for n := range 4 {
		l := storage.AuditLine{Seq: before.Seq + 1, Body: fmt.Append(nil, n)}
		l.Link = l.LinkAfter(before)
		if err := s.AppendAudit(t.Context(), before, []storage.AuditLine{l}); err != nil {
			t.Fatal(err)
		}
		before = l.Head()
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
		{"UPDATE audit SET body = x'39' WHERE seq = 3", "UPDATE audit SET body = x'32' WHERE seq = 3", "audit log: line 3 is not what was written behind line 2"},
		{"UPDATE audit SET body = x'39' WHERE seq = 1", "UPDATE audit SET body = x'30' WHERE seq = 1", "audit log: line 1 is not what was written"},
		{"UPDATE audit SET seq = 9 WHERE seq = 4", "UPDATE audit SET seq = 4 WHERE seq = 9", "audit log: lines 4 to 8 are missing"},
		{"UPDATE audit SET link = x'00' WHERE seq = 4", "DELETE FROM audit WHERE seq = 4", "audit log: line 4 is not what was written behind line 3"},
		{"DELETE FROM audit WHERE seq = 2", "DELETE FROM audit", "audit log: line 2 is missing"},
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
