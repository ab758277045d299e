package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// trips counts what waits for an answer: a command, or a pipeline as one.
type trips struct {
	n        atomic.Int64
	commands atomic.Int64
}

func (h *trips) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *trips) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		h.n.Add(1)
		h.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		if len(cmds) > 0 && cmds[0].Name() != "hello" && cmds[0].Name() != "client" {
			h.n.Add(1)
			h.commands.Add(int64(len(cmds)))
		}
		return next(ctx, cmds)
	}
}

// TestRoundTrips: what a request asks of the store is one trip each, so a code
// exchange and a refresh, which read a grant's standing and change it, are two.
func TestRoundTrips(t *testing.T) {
	s := open(t, "redis://"+redistest.Single(t).Addr)
	check(t, s.CreateClient(t.Context(), clients.Client{ID: "spa"}))
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	check(t, s.CreateSession(t.Context(), storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)}))
	var h trips
	s.AddHook(&h)
	for _, op := range []struct {
		name     string
		commands int64
		do       func() error
	}{
		{"CreateGrant", 1, func() error { return s.CreateGrant(t.Context(), grant("u.s.g")) }},
		{"SessionUser", 2, func() error { _, _, err := s.SessionUser(t.Context(), "u.s"); return err }},
		{"Standing", 4, func() error { _, err := s.Standing(t.Context(), "u.s.g", "spa"); return err }},
		{"Redeem", 1, func() error { return s.Redeem(t.Context(), redemption("u.s.g")) }},
		{"Rotate", 1, func() error { return s.Rotate(t.Context(), rotation("u.s.g", 1)) }},
		{"RevokeGrant", 1, func() error { return s.RevokeGrant(t.Context(), "u.s.g", start, "test") }},
		{"EndSession", 1, func() error { return s.EndSession(t.Context(), "u.s", start) }},
		{"Rotate and keep", 1, func() error {
			check(t, s.CreateGrant(t.Context(), grant("u.s.kept")))
			check(t, s.Redeem(t.Context(), redemption("u.s.kept")))
			h.n.Store(0)
			h.commands.Store(0)
			r := rotation("u.s.kept", 1)
			r.Keep = true
			return s.Rotate(t.Context(), r)
		}},
		{"Once", 1, func() error { return s.Once(t.Context(), [32]byte{1}, start, start.Add(time.Minute)) }},
		{"AddLogouts", 1, func() error { return s.AddLogouts(t.Context(), []storage.Logout{logout("u.s"), logout("u.s2")}) }},
		{"ClaimLogouts", 1, func() error { _, err := s.ClaimLogouts(t.Context(), start, start.Add(time.Minute), 10); return err }},
		{"DeferLogout", 1, func() error { return s.DeferLogout(t.Context(), "spa", "u.s", start) }},
		{"Logout", 1, func() error { _, err := s.Logout(t.Context(), "spa", "u.s"); return err }},
		{"EachLogout", 1, func() error { return s.EachLogout(t.Context(), func(storage.Logout) error { return nil }) }},
		{"FinishLogout", 1, func() error { return s.FinishLogout(t.Context(), "spa", "u.s") }},
		{"AppendEvents", 1, func() error { return s.AppendEvents(t.Context(), []storage.Event{event("a"), event("b")}, start) }},
		{"AppendAudit", 1, func() error {
			return s.AppendAudit(t.Context(), storage.AuditHead{}, auditLines(storage.AuditHead{}, "a", "b"))
		}},
		{"AuditHead", 1, func() error { _, err := s.AuditHead(t.Context()); return err }},
		{"AuditLines", 1, func() error { _, err := s.AuditLines(t.Context(), 0, 10); return err }},
		{"Events", 2, func() error { _, _, err := s.Events(t.Context(), "", 10); return err }},
		{"Client", 1, func() error { _, err := s.Client(t.Context(), "spa"); return err }},
		{"Count", 1, func() error { _, err := s.Count(t.Context(), "k", 1, start, time.Minute); return err }},
	} {
		h.n.Store(0)
		h.commands.Store(0)
		check(t, op.do())
		if n, commands := h.n.Load(), h.commands.Load(); n != 1 || commands != op.commands {
			t.Errorf("%s took %d trips with %d commands; 1 and %d expected", op.name, n, commands, op.commands)
		}
	}
	// The events are in one slot, the audit log in another.
	h.n.Store(0)
	_, err := s.Sweep(t.Context(), start, 10)
	check(t, err)
	if n := h.n.Load(); n != 2 {
		t.Errorf("Sweep took %d trips; 2 expected", n)
	}
}

// TestNothingGrows: a refresh leaves as much memory used as before.
func TestNothingGrows(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	family(t, s, "u.s.g")
	kept := rotation("u.s.kept", 1)
	kept.Keep = true
	check(t, s.CreateGrant(t.Context(), grant("u.s.kept")))
	usage := func() string {
		return do(t, server, "MEMORY", "USAGE", "sg:g{u}.s.g") + " " + do(t, server, "MEMORY", "USAGE", "sg:g{u}.s.kept") + " " + do(t, server, "DBSIZE")
	}
	before := usage()
	bound := redemption("u.s.kept")
	bound.JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	check(t, s.Redeem(t.Context(), bound))
	if after := usage(); after != before {
		t.Errorf("to be bound to a key took a grant from %s to %s", before, after)
	}
	for from := uint64(1); from < 1000; from++ {
		check(t, s.Rotate(t.Context(), rotation("u.s.g", from)))
		check(t, s.Rotate(t.Context(), kept))
		if from == 1 {
			before = usage()
		}
	}
	if after := usage(); after != before {
		t.Errorf("a grant took %s and takes %s after 1000 refreshes", before, after)
	}
}

func TestNamesAreUnique(t *testing.T) {
	for name, url := range map[string]string{"Single": "redis://" + redistest.Single(t).Addr, "Cluster": redistest.NewCluster(t).URL()} {
		t.Run(name, func(t *testing.T) {
			s, other := open(t, url), open(t, url)
			for round := range 20 {
				var won atomic.Int64
				var together sync.WaitGroup
				for i := range 16 {
					together.Go(func() {
						store := []storage.Store{s, other}[i%2]
						u := storage.User{ID: storage.UserID(fmt.Sprintf("u%d-%d", round, i)), Name: fmt.Sprint("name", round)}
						switch err := store.CreateUser(t.Context(), u); {
						case err == nil:
							won.Add(1)
						case !errors.Is(err, storage.ErrExists):
							t.Error(err)
						}
					})
				}
				together.Wait()
				if won.Load() != 1 {
					t.Fatalf("%d accounts were made with one name", won.Load())
				}
				u, err := s.UserByName(t.Context(), fmt.Sprint("name", round))
				check(t, err)
				// Everybody renames it at once: one does, and only that name is its.
				var renamed atomic.Int64
				for i := range 8 {
					together.Go(func() {
						u := u
						u.Name = fmt.Sprintf("name%d-%d", round, i)
						switch err := other.UpdateUser(t.Context(), u); {
						case err == nil:
							renamed.Add(1)
						case !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrExists):
							t.Error(err)
						}
					})
				}
				together.Wait()
				now, err := s.User(t.Context(), u.ID)
				check(t, err)
				if by, err := s.UserByName(t.Context(), now.Name); renamed.Load() != 1 || err != nil || by.ID != u.ID {
					t.Fatalf("%d renamed it, and %q is %q: %v", renamed.Load(), now.Name, by.ID, err)
				}
				if _, err := s.UserByName(t.Context(), u.Name); !errors.Is(err, storage.ErrNotFound) {
					t.Fatalf("the old name still finds it: %v", err)
				}
			}
			check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
		})
	}
}

// TestAbandonedName: a process died after it had reserved a name, or after it
// had removed an account.
func TestAbandonedName(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u1", Name: "alice"}))
	key := ""
	for bucket := range 64 {
		if k := fmt.Sprintf("sg:n{%d}", bucket); do(t, server, "EXISTS", k) == "1" {
			key = k
		}
	}
	do(t, server, "DEL", "sg:u{u1}")
	entry := do(t, server, "HGET", key, "alice")
	// Its time is not up: whoever reserved it may still write the account.
	want(t, s.CreateUser(t.Context(), storage.User{ID: "u2", Name: "alice"}), storage.ErrExists)
	if _, err := s.UserByName(t.Context(), "alice"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("an account that is not there is found by its name: %v", err)
	}
	if list, err := s.ListUsers(t.Context(), storage.Page{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	_, rest, _ := strings.Cut(entry, ":")
	do(t, server, "HSET", key, "alice", "1:"+rest)
	check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u2", Name: "alice"}))
	u, err := s.UserByName(t.Context(), "alice")
	check(t, err)
	if u.ID != "u2" {
		t.Errorf("alice is %q", u.ID)
	}
	// A name that is in use is never taken over, however old its entry is.
	entry = do(t, server, "HGET", key, "alice")
	_, rest, _ = strings.Cut(entry, ":")
	do(t, server, "HSET", key, "alice", "1:"+rest)
	want(t, s.CreateUser(t.Context(), storage.User{ID: "u3", Name: "alice"}), storage.ErrExists)
}

// between runs something once, after the nth script that a store has run.
type between struct {
	trips
	n  int
	do func()
}

func (h *between) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds) > 0 && cmds[0].Name() == "evalsha" {
			if h.n--; h.n == 0 {
				h.do()
			}
		}
		return err
	}
}

// TestRenamedBack: an account gets its old name back before whoever took that
// from it has released it.
func TestRenamedBack(t *testing.T) {
	server := redistest.Single(t)
	s, other := open(t, "redis://"+server.Addr), open(t, "redis://"+server.Addr)
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	_, entry, _ := strings.Cut(do(t, server, "HGET", s.NameKey("alice"), "alice"), ":")
	do(t, server, "HSET", s.NameKey("alice"), "alice", "1:"+entry) // long ago
	rename := func(s storage.Store, to string) {
		t.Helper()
		u, err := s.User(t.Context(), "u")
		check(t, err)
		u.Name = to
		check(t, s.UpdateUser(t.Context(), u))
	}
	back := false
	// It tries without a reservation, reserves the name, and takes it.
	s.AddHook(&between{n: 3, do: func() { rename(other, "alice"); back = true }})
	rename(s, "bob")
	if !back {
		t.Fatal("it was not renamed back")
	}
	if u, err := s.UserByName(t.Context(), "alice"); err != nil || u.ID != "u" {
		t.Errorf("alice is %q: %v", u.ID, err)
	}
	want(t, s.CreateUser(t.Context(), storage.User{ID: "u2", Name: "alice"}), storage.ErrExists)
	check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
}

// TestLastingIsWritten: what is answered when the replicas have it is written
// each time, also where nothing changes. A newer Redis waits for nothing else.
func TestLastingIsWritten(t *testing.T) {
	server := redistest.Single(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := open(t, "redis://"+proxy.Addr)
	ctx := t.Context()
	session := storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)}
	check(t, s.CreateSession(ctx, session))
	family(t, s, "u.s.g")
	check(t, s.Rotate(ctx, rotation("u.s.g", 1)))
	check(t, s.CreateClient(ctx, clients.Client{ID: "spa"}))
	changes := func() int {
		n, err := strconv.Atoi(info(t, server, "rdb_changes_since_last_save"))
		check(t, err)
		return n
	}
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"Rotate", func() error { return s.Rotate(ctx, rotation("u.s.g", 1)) }},
		{"Rotate and keep", func() error { r := rotation("u.s.g", 2); r.Keep = true; return s.Rotate(ctx, r) }},
		{"RevokeGrant", func() error { return s.RevokeGrant(ctx, "u.s.g", start, "test") }},
		{"EndSession", func() error { return s.EndSession(ctx, "u.s", start) }},
		{"Redeem", func() error {
			if err := s.Redeem(ctx, redemption("u.s.g")); !errors.Is(err, storage.ErrReused) {
				return fmt.Errorf("it was redeemed before, and got %w", err)
			}
			return nil
		}},
		{"AddLogouts", func() error { return s.AddLogouts(ctx, []storage.Logout{logout("u.s")}) }},
		{"FinishLogout", func() error { return s.FinishLogout(ctx, "spa", "u.s") }},
		{"AppendEvents", func() error { return s.AppendEvents(ctx, []storage.Event{event("a")}, start) }},
	} {
		check(t, op.do())
		before := changes()
		check(t, op.do())
		if changes() == before {
			t.Errorf("%s again wrote nothing", op.name)
		}
	}
	// Asked again because the answer was lost.
	cut := proxy.CutAfterRequest(1, "evalsha")
	before := changes()
	check(t, s.RemoveClient(ctx, "spa"))
	happened(t, cut)
	if once := 2; changes() <= before+once {
		t.Error("RemoveClient again wrote nothing")
	}
	cut = proxy.CutAfterRequest(1, "evalsha", "alice")
	before = changes()
	check(t, s.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}))
	happened(t, cut)
	if once := 3; changes() <= before+once { // entry, order, account
		t.Error("to reserve a name again wrote nothing")
	}
	cut = proxy.CutAfterRequest(1, "evalsha")
	before = changes()
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, auditLines(storage.AuditHead{}, "a")))
	happened(t, cut)
	if once := 1; changes() <= before+once {
		t.Error("AppendAudit again wrote nothing")
	}
}

// TestLives: what counts is in Redis for as long as it counts.
func TestLives(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	lives := func(key string, least time.Duration) {
		t.Helper()
		ms, err := strconv.ParseInt(do(t, server, "PTTL", key), 10, 64)
		check(t, err)
		// An hour longer, in which the test has taken a moment.
		if left := time.Duration(ms) * time.Millisecond; left < least || left > least+time.Hour {
			t.Errorf("%s lives for %s, from %s on an hour longer expected", key, left, least)
		}
	}
	session := storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(12 * time.Hour)}
	check(t, s.CreateSession(t.Context(), session))
	lives("sg:s{u}.s", 12*time.Hour)
	check(t, s.CreateGrant(t.Context(), grant("u.s.g")))
	lives("sg:g{u}.s.g", time.Minute)
	lives("sg:i{u}", 12*time.Hour)
	check(t, s.Redeem(t.Context(), redemption("u.s.g")))
	check(t, s.Rotate(t.Context(), rotation("u.s.g", 1)))
	check(t, s.RevokeGrant(t.Context(), "u.s.g", start, "test"))
	lives("sg:g{u}.s.g", 24*time.Hour)
	lives("sg:i{u}", 24*time.Hour)
	_, err := s.Count(t.Context(), "k", 1, start, time.Hour)
	check(t, err)
	lives(do(t, server, "KEYS", "sg:t*"), time.Hour)

	family(t, s, "u.s.slow")
	slow := rotation("u.s.slow", 1)
	slow.OnlyUntil = start.Add(10 * time.Minute)
	check(t, s.Rotate(t.Context(), slow))
	lives("sg:w{u}", 10*time.Minute)

	check(t, s.PutCase(t.Context(), aCase("u")))
	lives("sg:k{u}", 30*24*time.Hour)
	lives("sg:{k}cases", 30*24*time.Hour+time.Hour)
	lives("sg:{k}until", 30*24*time.Hour+time.Hour)
	short := aCase("u2")
	short.Expires = start.Add(time.Hour)
	check(t, s.PutCase(t.Context(), short)) // takes nothing of the other's life
	lives("sg:k{u2}", time.Hour)
	lives("sg:{k}cases", 30*24*time.Hour+time.Hour)
	c, err := s.Case(t.Context(), "u")
	check(t, err)
	c.UpdatedAt, c.Expires = start.Add(time.Hour), start.Add(31*24*time.Hour) // 30 days and 23 hours from now
	check(t, s.PutCase(t.Context(), c))
	lives("sg:k{u}", 30*24*time.Hour+23*time.Hour)
	lives("sg:{k}until", 31*24*time.Hour)
}

// TestAskedAgain: the answer to a write is lost, and before it is asked for
// again somebody has changed what it wrote. That must stay.
func TestAskedAgain(t *testing.T) {
	server := redistest.Single(t)
	proxy := redistest.NewProxy(t, server.Addr)
	other := open(t, "redis://"+server.Addr)
	ctx := t.Context()
	check(t, other.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}))
	u, err := other.User(ctx, "u")
	check(t, err)
	blocked := u
	blocked.Block = &storage.Block{Reason: "test", At: start}
	for _, op := range []struct {
		name string
		do   func(storage.Store) error
		then func() error
		err  error
		kept func() bool
	}{
		{"CreateGrant", func(s storage.Store) error { return s.CreateGrant(ctx, grant("u.s.g")) },
			func() error { return other.Redeem(ctx, redemption("u.s.g")) }, storage.ErrExists,
			func() bool { return errors.Is(other.Redeem(ctx, redemption("u.s.g")), storage.ErrReused) }},
		{"CreateClient", func(s storage.Store) error { return s.CreateClient(ctx, clients.Client{ID: "spa"}) },
			func() error {
				c, err := other.Client(ctx, "spa")
				check(t, err)
				c.Disabled = true
				return other.UpdateClient(ctx, c)
			}, storage.ErrExists,
			func() bool { c, err := other.Client(ctx, "spa"); return err == nil && c.Disabled }},
		{"PutCase", func(s storage.Store) error { return s.PutCase(ctx, aCase("u")) },
			func() error {
				c, err := other.Case(ctx, "u")
				check(t, err)
				c.Reported = 7
				return other.PutCase(ctx, c)
			}, storage.ErrConflict,
			func() bool { c, err := other.Case(ctx, "u"); return err == nil && c.Reported == 7 }},
		{"AppendAudit", func(s storage.Store) error { // it is there, and others are behind it
			return s.AppendAudit(ctx, storage.AuditHead{}, auditLines(storage.AuditHead{}, "a", "b"))
		}, func() error {
			h := auditLines(storage.AuditHead{}, "a", "b")[1].Head()
			return other.AppendAudit(ctx, h, auditLines(h, "c"))
		}, nil,
			func() bool {
				l, err := other.AuditLines(ctx, 0, 10)
				return err == nil && len(l) == 3 && string(l[2].Body) == "c"
			}},
		{"UpdateUser", func(s storage.Store) error { return s.UpdateUser(ctx, u) },
			func() error { blocked.Version = u.Version + 1; return other.UpdateUser(ctx, blocked) }, storage.ErrConflict,
			func() bool { u, err := other.User(ctx, "u"); return err == nil && u.Block != nil }},
	} {
		t.Run(op.name, func(t *testing.T) {
			s := open(t, "redis://"+proxy.Addr)
			n := 1
			if op.name == "PutCase" {
				n = 2 // after the order of cases
			}
			s.AddHook(&between{n: n, do: func() { check(t, op.then()) }})
			cut := proxy.CutAfterRequest(n, "evalsha")
			want(t, op.do(s), op.err)
			happened(t, cut)
			if !op.kept() {
				t.Error("what was changed meanwhile is gone")
			}
		})
	}
}

// TestReservationRanOut: a process stood still between the reservation of a
// name and the use of it. By then it may be another's.
func TestReservationRanOut(t *testing.T) {
	server := redistest.Single(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := open(t, "redis://"+proxy.Addr)
	ctx := t.Context()
	check(t, s.CreateUser(ctx, storage.User{ID: "u1", Name: "alice"}))
	u, err := s.User(ctx, "u1")
	check(t, err)
	// The deadline in the answer, ten digits, is of long ago.
	deadline := regexp.MustCompile(`^(\$\d+\r\n)\d{10}:`)
	proxy.Edit(func(b []byte) []byte { return deadline.ReplaceAll(b, []byte("${1}1000000000:")) })
	want(t, s.CreateUser(ctx, storage.User{ID: "u2", Name: "bob"}), storage.ErrUnavailable)
	u.Name = "carol"
	want(t, s.UpdateUser(ctx, u), storage.ErrUnavailable)
	proxy.Edit(nil)
	_, err = s.User(ctx, "u2")
	want(t, err, storage.ErrNotFound)
	if u, err := s.UserByName(ctx, "alice"); err != nil || u.ID != "u1" {
		t.Errorf("alice is %q: %v", u.ID, err)
	}
}

// TestLastingWaits: there is no replica. What must last is not acknowledged,
// what may be lost is.
func TestLastingWaits(t *testing.T) {
	server := redistest.Single(t)
	alone := open(t, "redis://"+server.Addr)
	s := open(t, with("redis://"+server.Addr, "replicas=1", "timeout=400ms"))
	ctx := t.Context()
	check(t, alone.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}))
	check(t, alone.CreateClient(ctx, clients.Client{ID: "spa"}))
	check(t, alone.CreateResourceServer(ctx, clients.ResourceServer{ID: "api"}))
	user := func() storage.User { u, err := alone.User(ctx, "u"); check(t, err); return u }
	client := func() clients.Client { c, err := alone.Client(ctx, "spa"); check(t, err); return c }
	api := func() clients.ResourceServer { rs, err := alone.ResourceServer(ctx, "api"); check(t, err); return rs }
	check(t, s.CreateSession(ctx, storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)}))
	check(t, s.CreateGrant(ctx, grant("u.s.g")))
	check(t, s.TouchSession(ctx, "u.s", start, start))
	_, err := s.Count(ctx, "k", 1, start, time.Hour)
	check(t, err)
	_, err = s.Standing(ctx, "u.s.g", "spa")
	check(t, err)
	check(t, s.Once(ctx, [32]byte{1}, start, start.Add(time.Minute)))
	check(t, alone.AddLogouts(ctx, []storage.Logout{logout("u.s")}))
	check(t, alone.PutCase(ctx, aCase("u")))
	_, err = s.ClaimLogouts(ctx, start, start.Add(time.Minute), 10)
	check(t, err)
	check(t, s.DeferLogout(ctx, "spa", "u.s", start))
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"Redeem", func() error { return s.Redeem(ctx, redemption("u.s.g")) }},
		{"Rotate", func() error { return s.Rotate(ctx, rotation("u.s.g", 1)) }},
		{"Rotate again", func() error { return s.Rotate(ctx, rotation("u.s.g", 1)) }},
		{"Rotate and keep", func() error { r := rotation("u.s.g", 2); r.Keep = true; return s.Rotate(ctx, r) }},
		{"AddLogouts", func() error { return s.AddLogouts(ctx, []storage.Logout{logout("u.s2")}) }},
		{"FinishLogout", func() error { return s.FinishLogout(ctx, "spa", "u.s") }},
		{"AppendEvents", func() error { return s.AppendEvents(ctx, []storage.Event{event("a")}, start) }},
		{"PutCase", func() error { return s.PutCase(ctx, aCase("u9")) }},
		{"RemoveCase", func() error { return s.RemoveCase(ctx, "u") }},
		{"AppendAudit", func() error {
			return s.AppendAudit(ctx, storage.AuditHead{}, auditLines(storage.AuditHead{}, "a"))
		}},
		{"RevokeGrant", func() error { return s.RevokeGrant(ctx, "u.s.g", start, "test") }},
		{"EndSession", func() error { return s.EndSession(ctx, "u.s", start) }},
		{"CreateUser", func() error { return s.CreateUser(ctx, storage.User{ID: "u2", Name: "bob"}) }},
		{"UpdateUser", func() error { return s.UpdateUser(ctx, user()) }},
		{"UpdateClient", func() error { return s.UpdateClient(ctx, client()) }},
		{"UpdateResourceServer", func() error { return s.UpdateResourceServer(ctx, api()) }},
		{"CreateClient", func() error { return s.CreateClient(ctx, clients.Client{ID: "spa2"}) }},
		{"PutKeyRing", func() error { return s.PutKeyRing(ctx, storage.KeyRing{}) }},
		{"PutKeyRing again", func() error { return s.PutKeyRing(ctx, storage.KeyRing{Version: 1}) }},
		{"RemoveClient", func() error { return s.RemoveClient(ctx, "spa") }},
		{"RemoveResourceServer", func() error { return s.RemoveResourceServer(ctx, "api") }},
		{"RemoveUser", func() error { return s.RemoveUser(ctx, "u") }},
	} {
		if err := op.do(); !errors.Is(err, storage.ErrUnknown) {
			t.Errorf("%s: got %v, want %v", op.name, err, storage.ErrUnknown)
		}
	}
	want(t, s.Ready(ctx), storage.ErrUnavailable)
}

// TestConnections: there are never more than the configuration allows.
func TestConnections(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, with("redis://"+server.Addr, "connections=2"))
	family(t, s, "u.s.g")
	var together sync.WaitGroup
	for range 32 {
		together.Go(func() {
			for range 10 {
				if err := s.Ready(t.Context()); err != nil {
					t.Error(err)
				}
				// Too much to be sent with what others ask.
				if _, err := s.ListUsers(t.Context(), storage.Page{Limit: 10}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	together.Wait()
	if n := strings.Count(do(t, server, "CLIENT", "LIST"), "id=") - 1; n > 2 { // one asks for the list
		t.Errorf("%d connections, 2 are allowed", n)
	}
}

func TestCheckFinds(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	check(t, s.CreateSession(t.Context(), storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)}))
	family(t, s, "u.s.g")
	check(t, s.CreateClient(t.Context(), clients.Client{ID: "spa"}))
	check(t, s.Once(t.Context(), [32]byte{1}, start, start.Add(time.Hour)))
	check(t, s.AddLogouts(t.Context(), []storage.Logout{logout("u.s")}))
	check(t, s.AppendEvents(t.Context(), []storage.Event{event("a")}, start))
	check(t, s.PutCase(t.Context(), aCase("u")))
	check(t, s.AppendAudit(t.Context(), storage.AuditHead{}, auditLines(storage.AuditHead{}, "a", "b", "c")))
	for name, c := range map[string]struct {
		damage [][]string
		says   string
	}{
		"cut off grant":    {[][]string{{"SET", "sg:g{u}.s.g", "x", "KEEPTTL"}}, "damaged"},
		"altered session":  {[][]string{{"SETRANGE", "sg:s{u}.s", "24", "\xff\xff"}}, "damaged"},
		"altered client":   {[][]string{{"SETRANGE", "sg:{r}c:spa", "8", "x"}}, "damaged"},
		"never expires":    {[][]string{{"PERSIST", "sg:g{u}.s.g"}}, "never expires"},
		"account expires":  {[][]string{{"EXPIRE", "sg:u{u}", "1000"}}, "expires in"},
		"another kind":     {[][]string{{"DEL", "sg:u{u}"}, {"HSET", "sg:u{u}", "a", "b"}}, "a string is expected"},
		"not in its index": {[][]string{{"ZREM", "sg:i{u}", "g.s.g"}}, "not in its user's index"},
		"name is gone":     {[][]string{{"EVAL", "for b=0,63 do redis.call('DEL', 'sg:n{'..b..'}') end", "0"}}, "not its own in the index of names"},
		"for ever once":    {[][]string{{"PERSIST", "sg:x{AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}"}}, "never expires"},
		"queue stays":      {[][]string{{"PERSIST", "sg:{l}due"}}, "never expires"},
		"altered logout":   {[][]string{{"HSET", "sg:{l}logouts", "\x00\x00\x00\x03spau.s", "x"}}, "damaged"},
		"nobody's logout":  {[][]string{{"HSET", "sg:{l}logouts", "\xff", strings.Repeat("x", 28)}}, "damaged"},
		"never due":        {[][]string{{"DEL", "sg:{l}due"}}, "not in the order"},
		"event lacks much": {[][]string{{"XADD", "sg:{e}events", "*", "i", "x"}}, "damaged"},
		"altered event":    {[][]string{{"XADD", "sg:{e}events", "*", "i", "x", "k", "user", "s", "u", "e", "-1", "b", "1", "u", "1", "r", "", "a", "", "l", "1"}}, "damaged"},
		"events expire":    {[][]string{{"EXPIRE", "sg:{e}events", "1000"}}, "expires in"},
		"events are none":  {[][]string{{"SET", "sg:{e}events", "x"}}, "a stream is expected"},
		"altered case":     {[][]string{{"SETRANGE", "sg:k{u}", "8", "x"}}, "damaged"},
		"another's case":   {[][]string{{"RENAME", "sg:k{u}", "sg:k{w}"}}, `the case of "u"`},
		"case stays":       {[][]string{{"PERSIST", "sg:k{u}"}}, "never expires"},
		"case not listed":  {[][]string{{"ZREM", "sg:{k}cases", "u"}}, "not in the order of cases"},
		"order stays":      {[][]string{{"PERSIST", "sg:{k}until"}}, "never expires"},
		"unbounded case":   {[][]string{{"EVAL", `local v = string.gsub(redis.call('GET', KEYS[1]), '"expires":"[^"]*"', '"expires":"0001-01-01T00:00:00Z"'); redis.call('SET', KEYS[1], v, 'KEEPTTL')`, "1", "sg:k{u}"}}, "never expires"},
		"a line is gone":   {[][]string{{"XDEL", "sg:{a}audit", "2-0"}}, "line 2 is missing"},
		"a forged line":    {[][]string{{"XADD", "sg:{a}audit", "4-0", "u", "0", "l", strings.Repeat("x", 32), "b", "d"}}, "line 4 is not what was written behind line 3"},
		"no line":          {[][]string{{"XADD", "sg:{a}audit", "4-1", "u", "0", "l", strings.Repeat("x", 32), "b", "d"}}, "damaged"},
		"unknown":          {[][]string{{"SET", "sg:x", "1"}}, "nothing of this version"},
	} {
		t.Run(name, func(t *testing.T) {
			do(t, server, "SELECT", "0")
			backup := map[string]string{}
			for _, key := range strings.Fields(do(t, server, "KEYS", "sg:*")) {
				backup[key] = do(t, server, "DUMP", key)
			}
			for _, command := range c.damage {
				do(t, server, command...)
			}
			var problems []string
			check(t, s.Check(t.Context(), func(p string) { problems = append(problems, p) }))
			if len(problems) == 0 || !strings.Contains(strings.Join(problems, "\n"), c.says) {
				t.Errorf("%q expected in %q", c.says, problems)
			}
			do(t, server, "FLUSHALL")
			for key, dump := range backup {
				ttl := "0"
				if strings.ContainsRune("sgixk", rune(key[3])) || strings.HasPrefix(key, "sg:{l}") || strings.HasPrefix(key, "sg:{k}") {
					ttl = "3600000"
				}
				do(t, server, "RESTORE", key, ttl, dump)
			}
			check(t, s.Check(t.Context(), func(p string) { t.Errorf("after it was repaired: %s", p) }))
		})
	}
}

func TestValidate(t *testing.T) {
	for url, says := range map[string]string{
		"redis://host":     "",
		"redis://host/3":   "",
		"rediss://h:1":     "",
		"redis://[::1]":    "",
		"redis://u:p%40@h": "",
		"redis+sentinel://a,b:1,c/primary/2?sentinel_user=x&replicas=2": "",
		"redis+cluster://a,b:7000,c?prefix=x:&timeout=500ms":            "",
		"mysql://h":                        "the scheme is",
		"redis+x://h":                      "sentinel or cluster is expected",
		"redis://a,b":                      "names one server",
		"redis://":                         "names no host",
		"redis://h:x":                      "no number",
		"redis://h/x":                      "a number expected",
		"redis://h/1/2":                    "too many parts",
		"redis+cluster://h/1":              "too many parts",
		"redis+sentinel://h":               "needs the name",
		"redis://h?prefix=a{b}":            "prefix",
		"redis://h?timeout=1h":             "timeout",
		"redis://h?fsync=3s":               "",
		"redis://h?fsync=0s":               "",
		"redis://h?fsync=1s":               "fsync",
		"redis://h?fsync=x":                "fsync",
		"redis://h?replicas=x":             "replicas",
		"redis://h?replicas=1&replicas=2":  "more than once",
		"redis://h?ca=x":                   "no such parameter here",
		"rediss://h?ca=/missing":           "ca",
		"redis://h?password_file=/missing": "password_file",
		"redis://:pass%zzword@h":           "not a URL",
	} {
		err := redis.Validate(url)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, %q expected", url, err, says)
		}
		if err != nil && strings.Contains(err.Error(), "pass%zz") {
			t.Errorf("the password is in %v", err)
		}
	}
	if got := redis.Redacted("redis://u:secret@h"); got != "redis://u:xxxxx@h" {
		t.Errorf("redacted: %s", got)
	}
	if got := redis.Redacted("redis://:pass%zzword@h"); strings.Contains(got, "pass%zz") {
		t.Errorf("redacted: %s", got)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("redis+sentinel://u:p@a,b:1/primary/2?sentinel_user=x&replicas=2")
	f.Add("rediss://[::1]:1/0?server_name=x")
	f.Fuzz(func(t *testing.T, url string) {
		if !strings.Contains(url, "_file") && !strings.Contains(url, "ca=") && !strings.Contains(url, "certificate") {
			redis.Validate(url)
			redis.Redacted(url)
		}
	})
}

// TestManyCallers: calls that are sent together are answered each, those that
// are given up are not sent, and nobody waits for ever.
func TestManyCallers(t *testing.T) {
	s := open(t, "redis://"+redistest.Single(t).Addr)
	for i := range 64 {
		family(t, s, storage.GrantID(fmt.Sprintf("u%d.s.g", i)))
	}
	var given, wrong atomic.Int64
	var together sync.WaitGroup
	for i := range 64 {
		together.Go(func() {
			id := storage.GrantID(fmt.Sprintf("u%d.s.g", i))
			for from := uint64(1); from < 300; {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%8)*100*time.Microsecond+50*time.Microsecond)
				err := s.Rotate(ctx, rotation(id, from))
				cancel()
				if failed(err) { // it may have happened; to ask again does no harm
					given.Add(1)
					err = s.Rotate(t.Context(), rotation(id, from))
				}
				if err != nil {
					t.Error(err)
					return
				}
				from++
				if st, err := s.Standing(t.Context(), id, "spa"); err != nil || st.Grant.ID != id || st.Grant.Generation != from {
					wrong.Add(1)
				}
			}
		})
	}
	together.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d answers were another's", wrong.Load())
	}
	if given.Load() == 0 {
		t.Error("nobody gave up: the test shows less than it should")
	}
}
