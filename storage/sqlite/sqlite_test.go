package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

func open(tb testing.TB, path string) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Opener {
		path := filepath.Join(t.TempDir(), "solegate.db")
		return func() storage.Store { return open(t, path) }
	})
}

// TestMain lets the test binary be the process that TestKill kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("SOLEGATE_TEST_WRITER"); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func grant(id string) storage.Grant {
	return storage.Grant{
		ID: storage.GrantID(id), Client: "spa", User: "u", Session: "u.s", Scope: []string{"openid", "offline_access"},
		Resource: []string{"https://api.example.com"}, CodeExpires: start.Add(time.Minute), Expires: start.Add(time.Minute), CreatedAt: start,
	}
}

// writeUntilKilled prints what was acknowledged, a line each.
func writeUntilKilled(path string) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("u.s.%d-%d-%d", os.Getpid(), w, i)
				err := s.CreateGrant(context.Background(), grant(id))
				if err == nil {
					err = s.Redeem(context.Background(), storage.Redemption{Grant: storage.GrantID(id), At: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(time.Hour)})
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				os.Stdout.WriteString(id + "\n") // one write: never half a line with another
			}
		}()
	}
	select {}
}

func TestNothingAcknowledgedIsLostByKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	var acknowledged []string
	for round := range 5 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "SOLEGATE_TEST_WRITER="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatal(lines.Text())
			}
			acknowledged = append(acknowledged, lines.Text())
			if n == 100+50*round {
				child.Process.Kill() // what is still in the pipe counts, too
			}
		}
		child.Wait()
		s := open(t, path)
		for _, id := range acknowledged {
			st, err := s.Standing(t.Context(), storage.GrantID(id), "spa")
			if err != nil || st.Grant.Generation != 1 {
				t.Fatalf("round %d: acknowledged grant %s: %+v, %v", round, id, st.Grant, err)
			}
		}
		s.Close()
	}
	if len(acknowledged) < 1000 {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
}

func TestOpenRefuses(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	write := func(name string, content []byte) string {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	foreign := path("foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE theirs (x)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	newer := path("newer.db")
	open(t, newer).Close()
	db, _ = sql.Open("sqlite", newer)
	if _, err := db.Exec("PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	damaged := path("damaged.db")
	open(t, damaged).Close()
	content, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(content); i += 7 {
		content[i] ^= 0x55
	}
	write("damaged.db", content)

	for _, c := range []struct{ path, want string }{
		{folder, "is a folder"},
		{path("missing/solegate.db"), "does not exist"},
		{write("empty.db", nil), "is empty"},
		{write("text.db", []byte(strings.Repeat("this is no database\n", 500))), "no SQLite file"},
		{foreign, "another program's"},
		{newer, "newer Solegate"},
		{damaged, "damaged"},
	} {
		before, _ := os.ReadFile(c.path)
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: c.path})
		if err == nil {
			s.Close()
			t.Errorf("%s was opened", c.path)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q: one line with %q expected", c.path, err, c.want)
		}
		if after, _ := os.ReadFile(c.path); string(after) != string(before) {
			t.Errorf("%s was changed", c.path)
		}
	}
}

func TestFileIsReadableByItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path+suffix, info.Mode())
		}
	}
}

func TestLockedByAnotherProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	open(t, path).Close()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, BusyTimeout: 50 * time.Millisecond})
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
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("while locked: %v", err)
	}
	tx.Rollback()
	if err := s.CreateGrant(t.Context(), grant("u.s.g")); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "solegate.db"))
	defer s.Close()
	if err := s.CreateGrant(t.Context(), grant("u.s.before")); err != nil {
		t.Fatal(err)
	}
	sqlite.LimitPages(t, s, 60)
	var err error
	n := 0
	for ; err == nil && n < 100000; n++ {
		err = s.CreateGrant(t.Context(), grant(fmt.Sprint("u.s.g", n)))
	}
	if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Fatalf("on a full disk: %v", err)
	}
	if _, err := s.Standing(t.Context(), "u.s.before", "spa"); err != nil {
		t.Errorf("reads fail on a full disk: %v", err)
	}
	for i := range n - 1 {
		if _, err := s.Standing(t.Context(), storage.GrantID(fmt.Sprint("u.s.g", i)), "spa"); err != nil {
			t.Fatalf("acknowledged grant g%d is lost: %v", i, err)
		}
	}
	sqlite.LimitPages(t, s, 1<<30)
	if err := s.CreateGrant(t.Context(), grant("u.s.after")); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

func TestFileDoesNotGrowWhenSwept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "solegate.db")
	s := open(t, path)
	defer s.Close()
	size := func() int64 {
		var sum int64
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(path + suffix); err == nil {
				sum += info.Size()
			}
		}
		return sum
	}
	now := start
	churn := func() {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 250 {
					g := grant(fmt.Sprintf("u.s.%d-%d-%d", now.UnixNano(), w, i))
					g.CodeExpires, g.Expires = now.Add(time.Minute), now.Add(time.Minute)
					if err := s.CreateGrant(context.Background(), g); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		now = now.Add(2 * time.Hour)
		for {
			n, err := s.Sweep(t.Context(), now, 500)
			if err != nil {
				t.Fatal(err)
			}
			if n < 500 {
				break
			}
		}
	}
	for range 3 {
		churn()
	}
	before := size()
	for range 6 {
		churn()
	}
	if after := size(); after > before*5/4 {
		t.Errorf("the file grew from %d to %d bytes", before, after)
	}
}

func benchmarkStore(b *testing.B) (*sqlite.Store, []storage.GrantID) {
	s := open(b, filepath.Join(b.TempDir(), "solegate.db"))
	b.Cleanup(func() { s.Close() })
	u := storage.User{ID: "u", Name: "alice", CreatedAt: start, UpdatedAt: start}
	x := storage.Session{ID: "u.s", User: "u", AuthTime: start, CreatedAt: start, LastSeen: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(time.Hour)}
	if err := errors.Join(s.CreateUser(b.Context(), u), s.CreateSession(b.Context(), x)); err != nil {
		b.Fatal(err)
	}
	ids := make([]storage.GrantID, 16)
	for i := range ids {
		ids[i] = storage.GrantID(fmt.Sprint("u.s.grant-", i))
		if err := errors.Join(s.CreateGrant(b.Context(), grant(string(ids[i]))), s.Redeem(b.Context(), storage.Redemption{Grant: ids[i], At: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(time.Hour)})); err != nil {
			b.Fatal(err)
		}
	}
	return s, ids
}

func BenchmarkStanding(b *testing.B) {
	s, ids := benchmarkStore(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Standing(b.Context(), ids[0], "spa"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRotate rotates 16 families at once, durably.
func BenchmarkRotate(b *testing.B) {
	s, ids := benchmarkStore(b)
	b.ReportAllocs()
	var next atomic.Int64
	b.SetParallelism(len(ids) / 2)
	b.RunParallel(func(pb *testing.PB) {
		id := ids[int(next.Add(1)-1)%len(ids)]
		for generation := uint64(1); pb.Next(); generation++ {
			if err := s.Rotate(b.Context(), storage.Rotation{Grant: id, From: generation, At: start, Grace: time.Minute, IdleExpires: start.Add(time.Hour)}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRefresh is what a refresh costs the store: 16 workers, each of
// which reads the standing of its grant and then rotates it.
func BenchmarkRefresh(b *testing.B) {
	s, ids := benchmarkStore(b)
	b.ReportAllocs()
	var next atomic.Int64
	b.SetParallelism(len(ids) / 2)
	b.RunParallel(func(pb *testing.PB) {
		id := ids[int(next.Add(1)-1)%len(ids)]
		for pb.Next() {
			st, err := s.Standing(b.Context(), id, "spa")
			if err == nil {
				err = s.Rotate(b.Context(), storage.Rotation{Grant: id, From: st.Grant.Generation, At: start, Grace: time.Minute, IdleExpires: start.Add(time.Hour)})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestSweep(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "solegate.db"))
	defer s.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	check(s.CreateSession(t.Context(), storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(7 * 24 * time.Hour)}))
	for i := range 5 {
		check(s.CreateGrant(t.Context(), grant(fmt.Sprint("u.s.code", i))))
	}
	check(s.CreateGrant(t.Context(), grant("u.s.g")))
	check(s.Redeem(t.Context(), storage.Redemption{Grant: "u.s.g", At: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(24 * time.Hour)}))
	_, err := s.Count(t.Context(), "k", 1, start, time.Minute)
	check(err)
	second := start.Add(time.Second)
	check(s.Once(t.Context(), [32]byte{1}, start, second))
	check(s.AddLogouts(t.Context(), []storage.Logout{{Client: "spa", Session: "u.s", DueAt: start.Add(time.Hour), Expires: second}}))

	check(s.PutCase(t.Context(), storage.Case{User: "u", Expires: second}))

	sweep := func(at time.Time, limit, want int) {
		t.Helper()
		n, err := s.Sweep(t.Context(), at, limit)
		check(err)
		if n != want {
			t.Errorf("swept %d at %s, want %d", n, at.Sub(start), want)
		}
	}
	sweep(second.Add(-time.Nanosecond), 100, 0)
	sweep(second, 1, 1)
	sweep(second, 1, 1)
	sweep(second, 2, 1)
	if _, err := s.Case(t.Context(), "u"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a case past its end: %v", err)
	}
	if _, err := s.Logout(t.Context(), "spa", "u.s"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a logout past its end: %v", err)
	}
	codes := start.Add(time.Minute + time.Hour)
	sweep(codes.Add(-time.Second), 100, 1) // the counter
	sweep(codes, 3, 3)
	sweep(codes, 3, 2)
	sweep(start.Add(24*time.Hour), 100, 1)
	if _, err = s.Standing(t.Context(), "u.s.g", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a grant past its end: %v", err)
	}
	sweep(start.Add(7*24*time.Hour), 100, 1)
	if _, _, err = s.SessionUser(t.Context(), "u.s"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a session past its end: %v", err)
	}
}
