package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

func event(id string) storage.Event {
	return storage.Event{ID: id, Kind: storage.EventGrant, Subject: "u.s.g", NotBefore: start, Until: start.Add(time.Hour)}
}

// TestEventsOfARestoredFile: a reader has read what was written after the file
// was copied. Whatever the clock then says, and although places are given
// again, the reader learns that they are others'.
func TestEventsOfARestoredFile(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	check(s.AppendEvents(t.Context(), []storage.Event{event("a"), event("b")}, start))
	known, _, err := s.Events(t.Context(), "", 10)
	check(err)
	check(s.Close()) // all is in the one file
	backup, err := os.ReadFile(path)
	check(err)
	s = open(t, path)
	check(s.AppendEvents(t.Context(), []storage.Event{event("c"), event("d")}, start.Add(time.Minute)))
	_, at, err := s.Events(t.Context(), "", 10)
	check(err)
	check(s.Close())

	for name, now := range map[string]time.Time{"later": start.Add(time.Hour), "at the same time": start.Add(time.Minute), "long before": start.Add(-time.Hour)} {
		check(os.WriteFile(path, backup, 0o600))
		s := open(t, path)
		for range 2 { // also before anything is appended
			_, _, err = s.Events(t.Context(), at, 10)
			if !errors.Is(err, storage.ErrCursor) {
				t.Errorf("%s, from what was lost: %v", name, err)
			}
			if err := s.AwaitEvents(t.Context(), at); !errors.Is(err, storage.ErrCursor) {
				t.Errorf("%s, waiting after what was lost: %v", name, err)
			}
			check(s.AppendEvents(t.Context(), []storage.Event{event("e"), event("f")}, now))
		}
		list, _, err := s.Events(t.Context(), known[1].Cursor, 10)
		if err != nil || len(list) != 4 {
			t.Errorf("%s, from what is there: %v, %v", name, list, err)
		}
		check(s.Close())
	}
}
