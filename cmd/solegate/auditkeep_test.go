package main

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/audit"
)

// TestCommandKeepsAsServersDo: the line of a command that was not told for how
// long the servers keep theirs makes none be kept longer, or less long.
func TestCommandKeepsAsServersDo(t *testing.T) {
	for _, keep := range []time.Duration{24 * time.Hour, 8760 * time.Hour} {
		path := filepath.Join(t.TempDir(), "solegate.db")
		store, err := open(t.Context(), path, false, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := audit.New(audit.Config{Store: store, Keep: keep}).Write(t.Context(), audit.Event{What: "of a server"}); err != nil {
			t.Fatal(err)
		}
		command(t, "resource", "register", "--store", path, "--audience", "https://api.example.com")
		head, err := store.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(head.Until).Round(time.Minute); head.Seq != 2 || got != keep {
			t.Errorf("line %d is kept for %s, those of servers for %s", head.Seq, got, keep)
		}
	}
}
