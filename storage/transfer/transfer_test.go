package transfer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
	"github.com/solegate/solegate/storage/transfer"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

func now() time.Time { return start }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func onSQLite(t testing.TB) storage.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func onRedis(t testing.TB) storage.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Config{URL: "redis://" + redistest.Single(t).Addr})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func onCluster(t testing.TB) storage.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Config{URL: redistest.NewCluster(t).URL()})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestCopy(t *testing.T) {
	for name, stores := range map[string][2]func(testing.TB) storage.Store{
		"SQLiteToRedis":  {onSQLite, onRedis},
		"RedisToSQLite":  {onRedis, onSQLite},
		"SQLiteToSQLite": {onSQLite, onSQLite},
		"RedisToCluster": {onRedis, onCluster},
		"ClusterToRedis": {onCluster, onRedis},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := stores[0](t), stores[1](t)
			populate(t, from)
			var told atomic.Int64
			got, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Progress: func(c transfer.Count) { told.Store(c.Total()) }})
			check(t, err)
			if got != whole || told.Load() != whole.Total() {
				t.Errorf("copied %+v and said %d, want %+v", got, told.Load(), whole)
			}
			st, err := to.Standing(t.Context(), "u3.s1.g", "spa")
			check(t, err)
			if st.Grant.Generation != 2 || !st.Grant.RotatedAt.Equal(start.Add(time.Second)) || st.Grant.Epoch != 1<<60 || st.Grant.JKT != thumbprint || st.Session.Secret != (storage.Hash{1, 1}) || st.User.Block == nil || st.ClientVersion == 0 {
				t.Errorf("copied: %+v", st)
			}
			owed(t, from, to)
			hasEvents(t, to)
			hasAudit(t, to)
			if err := to.Once(t.Context(), once, start, start.Add(time.Minute)); err != nil {
				t.Errorf("what was used once was moved: %v", err)
			}
			check(t, to.Check(t.Context(), func(p string) { t.Error(p) }))
			if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now}); !errors.Is(err, transfer.ErrNotEmpty) {
				t.Errorf("onto a full target: %v", err)
			}
			if again, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err != nil || again != whole {
				t.Errorf("again: %+v, %v", again, err)
			}
			hasEvents(t, to)
			hasAudit(t, to)
			// A target that was in use is told from one that was interrupted.
			check(t, to.DeferLogout(t.Context(), "spa", "u3.s2", start.Add(time.Minute)))
			if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err == nil || !strings.Contains(err.Error(), "logout of session u3.s2 at client spa") {
				t.Errorf("onto a target that sends logout tokens: %v", err)
			}
			check(t, to.FinishLogout(t.Context(), "spa", "u3.s2"))
			c, err := to.Case(t.Context(), "u3")
			check(t, err)
			if c.Reported != 3 || len(c.Evidence) != 1 || c.Evidence[0].Addresses[0].String() != "192.0.2.1" {
				t.Errorf("the case became %+v", c)
			}
			reported := c
			reported.Reported++
			check(t, to.PutCase(t.Context(), reported))
			if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err == nil || !strings.Contains(err.Error(), "case of user u3") {
				t.Errorf("onto a target that takes reports: %v", err)
			}
			check(t, to.RemoveCase(t.Context(), "u3"))
			check(t, to.RevokeGrant(t.Context(), "u3.s1.g", start, "later"))
			if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err == nil || !strings.Contains(err.Error(), "u3.s1.g") {
				t.Errorf("onto a target that was in use: %v", err)
			}
		})
	}
}

func TestCopyIsInterrupted(t *testing.T) {
	from, to := onSQLite(t), onRedis(t)
	populate(t, from)
	for left := 0; ; left += 40 {
		var writes atomic.Int64
		failing := storagetest.WithFaults(to, func(string) storagetest.Outcome {
			n := writes.Add(1)
			return storagetest.Outcome{Fail: n > int64(left), Lose: n%7 == 0}
		})
		got, err := transfer.Copy(t.Context(), from, failing, transfer.Options{Now: now, Resume: left > 0})
		if err == nil {
			if got != whole {
				t.Errorf("copied %+v, want %+v", got, whole)
			}
			hasEvents(t, to)
			hasAudit(t, to)
			break
		}
		if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrExists) {
			t.Fatalf("with %d writes: %v", left, err)
		}
		if _, err := to.KeyRing(t.Context()); !errors.Is(err, storage.ErrNotFound) {
			t.Fatal("a half copied store has a key ring: a server would start on it")
		}
	}
}

func TestCopyWhileInUse(t *testing.T) {
	from, to := onSQLite(t), onSQLite(t)
	populate(t, from)
	changed := false
	_, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Progress: func(transfer.Count) {
		if !changed {
			changed = true // between the copy and the check
			check(t, from.RevokeGrant(context.Background(), "u1.s0.g", start, "meanwhile"))
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "u1.s0.g") {
		t.Errorf("a change meanwhile: %v", err)
	}
}

func master(t testing.TB) keys.Master {
	t.Helper()
	text, err := keys.GenerateMaster(rand.Reader)
	check(t, err)
	m, err := keys.ParseMaster([]byte(text))
	check(t, err)
	return m
}

func TestBackup(t *testing.T) {
	from, m := onRedis(t), master(t)
	populate(t, from)
	var file bytes.Buffer
	got, err := transfer.Backup(t.Context(), from, m, rand.Reader, start, &file)
	check(t, err)
	if got != whole {
		t.Errorf("backed up %+v, want %+v", got, whole)
	}
	for _, text := range []string{"person", "argon2", "spa", "example"} {
		if bytes.Contains(file.Bytes(), []byte(text)) {
			t.Errorf("the file has %q in the clear", text)
		}
	}
	restore := func(b []byte, m keys.Master, o transfer.Options) (storage.Store, transfer.Count, error) {
		t.Helper()
		to := onSQLite(t)
		o.Now = now
		got, err := transfer.Restore(t.Context(), bytes.NewReader(b), m, to, o)
		return to, got, err
	}
	to, got, err := restore(file.Bytes(), m, transfer.Options{})
	check(t, err)
	without := whole
	without.Sessions, without.Grants = 0, 0
	if got != without {
		t.Errorf("restored %+v, want %+v", got, without)
	}
	owed(t, from, to) // also by sessions that do not come back
	hasEvents(t, to)
	hasAudit(t, to)
	if u, err := to.UserByName(t.Context(), "person 7"); err != nil || u.Epoch != 7 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := to.Standing(t.Context(), "u3.s1.g", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a grant came back: %v", err)
	}
	if _, err := transfer.Restore(t.Context(), bytes.NewReader(file.Bytes()), m, to, transfer.Options{}); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("onto a full target: %v", err)
	}
	to, got, err = restore(file.Bytes(), m, transfer.Options{Sessions: true})
	check(t, err)
	if st, err := to.Standing(t.Context(), "u3.s1.g", "spa"); got != whole || err != nil || st.Grant.Generation != 2 || st.Grant.JKT != thumbprint {
		t.Errorf("restored %+v: %+v, %v", got, st, err)
	}

	refused := func(what string, b []byte, m keys.Master, want error) {
		t.Helper()
		to, _, err := restore(b, m, transfer.Options{})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := to.KeyRing(t.Context()); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: something was written", what)
		}
		if list, _ := to.ListUsers(t.Context(), storage.Page{Limit: 1}); len(list) > 0 {
			t.Errorf("%s: something was written", what)
		}
	}
	refused("another master key", file.Bytes(), master(t), keys.ErrMasterKey)
	refused("nothing", nil, m, transfer.ErrBackup)
	for _, n := range []int{1, 19, 40, 200, file.Len() / 2, file.Len() - 1} {
		refused(fmt.Sprint("cut off at ", n), file.Bytes()[:n], m, transfer.ErrBackup)
	}
	for _, n := range []int{0, 150, file.Len() / 2, file.Len() - 1} {
		altered := bytes.Clone(file.Bytes())
		altered[n] ^= 1
		refused(fmt.Sprint("altered at ", n), altered, m, transfer.ErrBackup)
	}
	refused("something after it", append(bytes.Clone(file.Bytes()), 0), m, transfer.ErrBackup)
}

// TestBackupInChunks: whole chunks can't be cut off, swapped or repeated.
func TestBackupInChunks(t *testing.T) {
	from, m := onSQLite(t), master(t)
	const chunk = 64<<10 + 16
	for i := range 4 {
		check(t, from.CreateUser(t.Context(), storage.User{ID: storage.UserID(fmt.Sprint(i)), Name: fmt.Sprint(i), DisplayName: strings.Repeat("x", 64<<10)}))
	}
	var file bytes.Buffer
	_, err := transfer.Backup(t.Context(), from, m, rand.Reader, start, &file)
	check(t, err)
	b := file.Bytes()
	head := len("solegate backup 1\n") + 2 + int(b[18])<<8 + int(b[19])
	first, second := b[head:head+chunk], b[head+chunk:head+2*chunk]
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{b[:head]}, parts...), nil) }
	if _, err := transfer.Restore(t.Context(), bytes.NewReader(join(first, second, b[head+2*chunk:])), m, onSQLite(t), transfer.Options{}); err != nil {
		t.Fatalf("the file as it is: %v", err)
	}
	for name, altered := range map[string][]byte{
		"cut off":   join(first, second),
		"left out":  join(second, b[head+2*chunk:]),
		"swapped":   join(second, first, b[head+2*chunk:]),
		"repeated":  join(first, first, b[head+2*chunk:]),
		"no chunks": join(),
	} {
		if _, err := transfer.Restore(t.Context(), bytes.NewReader(altered), m, onSQLite(t), transfer.Options{}); !errors.Is(err, transfer.ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBackupIsCutOff: a whole chunk that ends with a record is no whole file.
func TestBackupIsCutOff(t *testing.T) {
	from, m := onSQLite(t), master(t)
	u := storage.User{ID: "1", Name: "1"}
	text, err := json.Marshal(u)
	check(t, err)
	const size = 64 << 10
	u.DisplayName = strings.Repeat("x", size-len(`{"user":,"display_name":""}`)-len(text)-len("\n"))
	check(t, from.CreateUser(t.Context(), u))
	check(t, from.CreateUser(t.Context(), storage.User{ID: "2", Name: "2"}))
	var file bytes.Buffer
	_, err = transfer.Backup(t.Context(), from, m, rand.Reader, start, &file)
	check(t, err)
	b := file.Bytes()
	head := len("solegate backup 1\n") + 2 + int(b[18])<<8 + int(b[19])
	if _, err := transfer.Restore(t.Context(), bytes.NewReader(b), m, onSQLite(t), transfer.Options{}); err != nil {
		t.Fatalf("the file as it is: %v", err)
	}
	if got, err := transfer.Restore(t.Context(), bytes.NewReader(b[:head+size+16]), m, onSQLite(t), transfer.Options{}); !errors.Is(err, transfer.ErrBackup) {
		t.Errorf("%+v were restored: %v", got, err)
	}
}

// TestBackupWhileInUse: what had ended before the backup began has ended in
// it, and every grant's person and session are as new as the grant.
func TestBackupWhileInUse(t *testing.T) {
	from, m := onRedis(t), master(t)
	populate(t, from)
	ctx, stop := context.WithCancel(t.Context())
	var ended sync.Map
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := w; ctx.Err() == nil && i < people; i += 4 {
				u, err := from.User(context.Background(), storage.UserID(fmt.Sprint("u", i)))
				if err != nil {
					t.Error(err)
					return
				}
				u.Epoch += 1000
				if err := from.UpdateUser(context.Background(), u); err != nil {
					t.Error(err)
					return
				}
				ended.Store(u.ID, true)
			}
		})
	}
	var before []storage.UserID
	redistest.Wait(t, "some end", func() error {
		before = nil
		ended.Range(func(k, _ any) bool { before = append(before, k.(storage.UserID)); return true })
		if len(before) < 6 {
			return fmt.Errorf("%d have", len(before))
		}
		return nil
	})
	var file bytes.Buffer
	_, err := transfer.Backup(t.Context(), from, m, rand.Reader, start, &file)
	stop()
	work.Wait()
	check(t, err)
	to := onSQLite(t)
	_, err = transfer.Restore(t.Context(), bytes.NewReader(file.Bytes()), m, to, transfer.Options{Sessions: true, Now: now})
	check(t, err)
	for _, id := range before {
		if u, err := to.User(t.Context(), id); err != nil || u.Epoch < 1000 {
			t.Errorf("%s had ended before the backup, and has epoch %d: %v", id, u.Epoch, err)
		}
	}
}

// ending ends things just before a person's grants are read.
type ending struct {
	storage.Store
	end func(storage.UserID)
}

func (s ending) ListGrants(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Grant, error) {
	s.end(u)
	return s.Store.ListGrants(ctx, u, p)
}

// TestBackupKeepsEnds: what ended a grant before that was read is in the file.
func TestBackupKeepsEnds(t *testing.T) {
	from, m, ctx := onSQLite(t), master(t), t.Context()
	check(t, from.CreateClient(ctx, clients.Client{ID: "spa"}))
	check(t, from.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}))
	check(t, from.CreateSession(ctx, storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)}))
	check(t, from.CreateGrant(ctx, storage.Grant{ID: "u.s.g", Client: "spa", User: "u", Session: "u.s", CreatedAt: start, CodeExpires: start.Add(time.Minute), Expires: start.Add(time.Minute)}))
	// Expired at the time of the backup.
	check(t, from.CreateGrant(ctx, storage.Grant{ID: "u.s.old", Client: "spa", User: "u", Session: "u.s", CreatedAt: start, CodeExpires: start, Expires: start}))
	var file bytes.Buffer
	_, err := transfer.Backup(ctx, ending{from, func(id storage.UserID) {
		u, err := from.User(ctx, id)
		check(t, err)
		u.Epoch++
		check(t, from.UpdateUser(ctx, u))
		check(t, from.EndSession(ctx, "u.s", start))
		c, err := from.Client(ctx, "spa")
		check(t, err)
		c.Disabled = true
		check(t, from.UpdateClient(ctx, c))
	}}, m, rand.Reader, start, &file)
	check(t, err)
	to := onSQLite(t)
	_, err = transfer.Restore(ctx, bytes.NewReader(file.Bytes()), m, to, transfer.Options{Sessions: true, Now: now})
	check(t, err)
	st, err := to.Standing(ctx, "u.s.g", "spa")
	check(t, err)
	c, err := to.Client(ctx, "spa")
	check(t, err)
	if st.User.Epoch != 1 || st.Session.EndedAt.IsZero() || !c.Disabled {
		t.Errorf("what ended came back: %+v, %+v", st, c)
	}
	if _, err := to.Standing(ctx, "u.s.old", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a grant that had expired was kept: %v", err)
	}
}

func FuzzRestore(f *testing.F) {
	m := master(f)
	from := onSQLite(f)
	populate(f, from)
	var file bytes.Buffer
	if _, err := transfer.Backup(f.Context(), from, m, rand.Reader, start, &file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add(file.Bytes()[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := transfer.Restore(t.Context(), bytes.NewReader(b), m, refusing{}, transfer.Options{})
		if err == nil && !bytes.Equal(b, file.Bytes()) {
			t.Error("a file that was not written was restored")
		}
	})
}

// refusing is an empty store; nothing that is written to it is kept.
type refusing struct{ storage.Store }

func (refusing) ListUsers(context.Context, storage.Page) ([]storage.User, error)     { return nil, nil }
func (refusing) ListClients(context.Context, storage.Page) ([]clients.Client, error) { return nil, nil }
func (refusing) ListResourceServers(context.Context, storage.Page) ([]clients.ResourceServer, error) {
	return nil, nil
}
func (refusing) EachLogout(context.Context, func(storage.Logout) error) error { return nil }
func (refusing) Logout(context.Context, clients.ID, storage.SessionID) (storage.Logout, error) {
	return storage.Logout{}, storage.ErrNotFound
}
func (refusing) Events(context.Context, storage.Cursor, int) ([]storage.Event, storage.Cursor, error) {
	return nil, "", nil
}
func (refusing) AppendEvents(context.Context, []storage.Event, time.Time) error { return nil }
func (refusing) AuditHead(context.Context) (storage.AuditHead, error) {
	return storage.AuditHead{}, nil
}
func (refusing) AppendAudit(context.Context, storage.AuditHead, []storage.AuditLine) error {
	return nil
}
func (refusing) CopyAudit(context.Context, storage.AuditHead, []storage.AuditLine) error {
	return nil
}
func (refusing) AddLogouts(context.Context, []storage.Logout) error { return nil }
func (refusing) KeyRing(context.Context) (storage.KeyRing, error) {
	return storage.KeyRing{}, storage.ErrNotFound
}
func (refusing) PutKeyRing(context.Context, storage.KeyRing) error               { return nil }
func (refusing) ListCases(context.Context, storage.Page) ([]storage.Case, error) { return nil, nil }
func (refusing) PutCase(context.Context, storage.Case) error                     { return nil }
func (refusing) CreateUser(context.Context, storage.User) error                  { return nil }
func (refusing) CreateClient(context.Context, clients.Client) error              { return nil }
func (refusing) CreateSession(context.Context, storage.Session) error            { return nil }
func (refusing) CreateGrant(context.Context, storage.Grant) error                { return nil }
func (refusing) CreateResourceServer(context.Context, clients.ResourceServer) error {
	return nil
}

// TestCopyOntoACase: it alone makes a target no empty one.
func TestCopyOntoACase(t *testing.T) {
	from, to := onSQLite(t), onSQLite(t)
	check(t, to.PutCase(t.Context(), storage.Case{User: "u", Expires: start.Add(time.Hour)}))
	if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now}); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("onto a target with a case: %v", err)
	}
}

// TestCopyOnlyEvents: they alone make a target no empty one, and one that comes
// meanwhile is noticed.
func TestCopyOnlyEvents(t *testing.T) {
	from, to := onSQLite(t), onSQLite(t)
	check(t, to.AppendEvents(t.Context(), events(0, 1), start))
	if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now}); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("onto a target with an event: %v", err)
	}
	populate(t, from)
	to = onSQLite(t)
	appended := false
	_, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Progress: func(transfer.Count) {
		if !appended {
			appended = true // between the copy and the check
			check(t, from.AppendEvents(context.Background(), events(ends, ends+1), start))
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "events from e") {
		t.Errorf("an event meanwhile: %v", err)
	}
}

// TestCopyOnlyAudit: an audit log alone makes a target no empty one, and one
// that is another is not mixed with what is copied.
func TestCopyOnlyAudit(t *testing.T) {
	from, to := onSQLite(t), onRedis(t)
	check(t, from.AppendAudit(t.Context(), storage.AuditHead{Seq: 40}, logged()[:200]))
	check(t, to.AppendAudit(t.Context(), storage.AuditHead{Seq: 40}, logged()[:100])) // interrupted
	if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now}); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("onto an audit log: %v", err)
	}
	if got, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err != nil || got.Audit != 200 {
		t.Errorf("resumed: %+v, %v", got, err)
	}
	// The server went on with the copy: it has what there is, and more.
	head, err := to.AuditHead(t.Context())
	check(t, err)
	check(t, to.AppendAudit(t.Context(), head, logged()[200:201]))
	if _, err := transfer.Copy(t.Context(), from, to, transfer.Options{Now: now, Resume: true}); err == nil {
		t.Error("a target that goes on by itself passed for a copy")
	}
	other := onSQLite(t)
	l := storage.AuditLine{Seq: 41, Body: []byte("another")}
	check(t, other.AppendAudit(t.Context(), storage.AuditHead{Seq: 40}, []storage.AuditLine{l}))
	if _, err := transfer.Copy(t.Context(), from, other, transfer.Options{Now: now, Resume: true}); err == nil || !strings.Contains(err.Error(), "audit log") {
		t.Errorf("onto another audit log: %v", err)
	}
}
