package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// TestCommitFails: whether a transaction is on disk whose COMMIT failed, only
// a later read can tell. The connection is good again afterwards.
func TestCommitFails(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "solegate.db"))
	defer s.Close()
	sqlite.FailCommits(t, s, true)
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); !errors.Is(err, storage.ErrUnknown) || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a failed commit was answered by %v, ErrUnknown expected", err)
	}
	sqlite.FailCommits(t, s, false)
	if _, err := s.Standing(t.Context(), "u.s.g", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what was rolled back is read: %v", err)
	}
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); err != nil {
		t.Errorf("after a failed commit: %v", err)
	}
}

// TestFailureLeavesTheBatchAlone: of writes that share a transaction, the one
// that fails takes no other with it.
func TestFailureLeavesTheBatchAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// ROLLBACK ends the whole transaction, as a full disk does.
	if _, err := db.Exec(`CREATE TRIGGER bad BEFORE UPDATE OF revoked_at ON grants WHEN new.revoked_for = 'bad' BEGIN SELECT raise(ROLLBACK, 'bad'); END`); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("u.s.%d-%d", w, i)
				switch i % 4 {
				case 0:
					s.RevokeGrant(t.Context(), "u.s.g", start, "bad")
				case 1:
					if err := s.CreateGrant(t.Context(), grant("u.s.g")); !errors.Is(err, storage.ErrExists) {
						t.Errorf("a grant that exists: %v", err)
					}
				default:
					if err := s.CreateGrant(t.Context(), grant(id)); err != nil {
						t.Errorf("beside a failure: %v", err)
					}
					if _, err := s.Standing(t.Context(), storage.GrantID(id), "spa"); err != nil {
						t.Errorf("acknowledged and lost: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if st, err := s.Standing(t.Context(), "u.s.g", "spa"); err != nil || !st.Grant.RevokedAt.IsZero() {
		t.Errorf("what failed happened: %+v, %v", st.Grant, err)
	}
}

// TestAbandonedWhileItWaits: a write whose caller has left before its turn
// answers at once and never happens.
func TestAbandonedWhileItWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, BusyTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = s.CreateGrant(ctx, grant("u.s.g"))
	if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an abandoned write: %v", err)
	}
	tx.Rollback()
	if err := s.CreateGrant(t.Context(), grant("u.s.later")); err != nil { // it comes after "g"
		t.Fatal(err)
	}
	if _, err := s.Standing(t.Context(), "u.s.g", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("an abandoned write happened: %v", err)
	}
}

// TestFailureClaimsNothingTwice: a claim that runs again, because another write
// took its transaction with it, answers with what it claimed the second time.
func TestFailureClaimsNothingTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER bad BEFORE UPDATE OF revoked_at ON grants BEGIN SELECT raise(ROLLBACK, 'bad'); END`); err != nil {
		t.Fatal(err)
	}
	const n = 400
	list := make([]storage.Logout, n)
	for i := range list {
		list[i] = storage.Logout{Client: "spa", Session: storage.SessionID(fmt.Sprintf("u%d.s", i)), DueAt: start, Expires: start.Add(time.Hour)}
	}
	if err := errors.Join(s.CreateGrant(t.Context(), grant("u.s.g")), s.AddLogouts(t.Context(), list)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	times := map[storage.SessionID]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				got, err := s.ClaimLogouts(t.Context(), start, start.Add(time.Minute), 1)
				if err != nil || len(got) != 1 {
					t.Errorf("claimed %v, one expected: %v", got, err)
				}
				mu.Lock()
				for _, l := range got {
					times[l.Session]++
				}
				mu.Unlock()
			}
		})
		wg.Go(func() {
			for range n / 8 {
				s.RevokeGrant(t.Context(), "u.s.g", start, "bad")
			}
		})
	}
	wg.Wait()
	for _, l := range list {
		if times[l.Session] != 1 {
			t.Errorf("%s was claimed %d times", l.Session, times[l.Session])
		}
	}
}

// TestNeverAStoreInPlaceOfALostOne: what remains of a store is not replaced.
func TestNeverAStoreInPlaceOfALostOne(t *testing.T) {
	folder := t.TempDir()
	lost, link := filepath.Join(folder, "lost.db"), filepath.Join(folder, "link.db")
	open(t, lost).Close()
	if err := errors.Join(os.Rename(lost, lost+"-wal"), os.Symlink(filepath.Join(folder, "nowhere.db"), link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{lost: "-wal is still there", link: "no such file"} {
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err == nil {
			s.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q: one line with %q expected", path, err, want)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestLockedAtOpen: another program that has the file for itself alone is named
// at the start.
func TestLockedAtOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	open(t, path).Close()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=locking_mode(EXCLUSIVE)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, BusyTimeout: 20 * time.Millisecond}); err == nil {
		s.Close()
		t.Error("a locked file was opened")
	} else if !strings.Contains(err.Error(), "locked by another program") {
		t.Errorf("got %v", err)
	}
}

// TestWALShrinks: a reader that stays for long holds up checkpoints, so the
// WAL grows; when it has left, the WAL goes back to its limit.
func TestWALShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reader, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM grants").Scan(&n); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	large := grant("u.s.")
	large.Nonce = strings.Repeat("x", 1<<20)
	write := func(id string) {
		large.ID = storage.GrantID("u.s." + id)
		if err := s.CreateGrant(t.Context(), large); err != nil {
			t.Fatal(err)
		}
	}
	const limit = 16 << 20
	for i := range 24 {
		write(fmt.Sprint("held-", i))
	}
	if size() <= limit {
		t.Fatalf("the WAL is %d bytes while a reader holds it: the test shows nothing", size())
	}
	reader.Rollback()
	for i := range 12 { // the first checkpoints, a later one begins the WAL anew
		write(fmt.Sprint("free-", i))
	}
	if size() > limit {
		t.Errorf("the WAL stays at %d bytes, at most %d expected", size(), limit)
	}
}
