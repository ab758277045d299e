package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestTurnBesideABusyWriter: another process writes all the time and lets go
// for moments only. Whoever wants to write beside it gets a turn soon, however
// the moments fall.
func TestTurnBesideABusyWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var turns atomic.Int64 // of the other
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			tx, err := db.Begin()
			if err != nil {
				t.Error(err)
				return
			}
			turns.Add(1)
			<-time.After(20 * time.Millisecond)
			tx.Rollback()
			select {
			case <-stop:
				return
			case <-time.After(4 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	open(t, path).Close() // a command comes in while there is no turn to get
	const writes = 20
	before := turns.Load()
	for i := range writes {
		if err := s.CreateGrant(t.Context(), grant(fmt.Sprint("u.s.g", i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := turns.Load() - before; n > 3*writes {
		t.Errorf("the other had %d turns while %d were waited for, about as many are expected", n, writes)
	}
}
