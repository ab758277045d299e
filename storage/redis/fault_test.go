package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func grant(id storage.GrantID) storage.Grant {
	return storage.Grant{
		ID: id, Client: "spa", User: id.User(), Session: id.Session(), Scope: []string{"openid", "offline_access"},
		Resource: []string{"https://api.example.com"}, CodeExpires: start.Add(time.Minute), Expires: start.Add(time.Minute), CreatedAt: start,
	}
}

func redemption(id storage.GrantID) storage.Redemption {
	return storage.Redemption{Grant: id, At: start, IdleExpires: start.Add(12 * time.Hour), Expires: start.Add(24 * time.Hour)}
}

func rotation(id storage.GrantID, from uint64) storage.Rotation {
	return storage.Rotation{Grant: id, From: from, At: start, Grace: 10 * time.Second, IdleExpires: start.Add(12 * time.Hour)}
}

func logout(x storage.SessionID) storage.Logout {
	return storage.Logout{Client: "spa", Session: x, CreatedAt: start, DueAt: start, Expires: start.Add(24 * time.Hour)}
}

func aCase(u storage.UserID) storage.Case {
	return storage.Case{User: u, OpenedAt: start, UpdatedAt: start, Expires: start.Add(30 * 24 * time.Hour)}
}

// family makes a grant whose code was redeemed.
func family(t testing.TB, s storage.Store, id storage.GrantID) {
	t.Helper()
	check(t, s.CreateGrant(t.Context(), grant(id)))
	check(t, s.Redeem(t.Context(), redemption(id)))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

// failed reports whether err is one that the server answers with 503.
func failed(err error) bool {
	return errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrUnknown)
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	redistest.Wait(t, what, func() error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}

func do(t testing.TB, s *redistest.Server, args ...string) string {
	t.Helper()
	answer, err := s.Do(args...)
	check(t, err)
	return answer
}

// info returns one line of INFO, "" if the server does not answer.
func info(t testing.TB, s *redistest.Server, name string) string {
	t.Helper()
	text, _ := s.Do("INFO")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

func slot(t testing.TB, s *redistest.Server, key string) int {
	t.Helper()
	n, err := strconv.Atoi(do(t, s, "CLUSTER", "KEYSLOT", key))
	check(t, err)
	return n
}

// bound is how long an operation may take when nothing answers: twice the
// store's time limit, and a second for a machine that is busy.
const bound = 5 * time.Second

// trouble is a load on a store, and what was acknowledged to it.
type trouble struct {
	t     *testing.T
	store storage.Store
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup

	families []storage.GrantID
	done     []atomic.Uint64 // the generation that was acknowledged
	failures atomic.Int64
	slowest  atomic.Int64

	mu      sync.Mutex
	revoked []storage.GrantID
	blocked []storage.UserID
	owed    []storage.SessionID
	sent    []storage.SessionID

	reported [2]atomic.Uint64 // in each case, as was acknowledged

	appended [2][]int        // by each writer, the lists that were acknowledged
	followed map[string]bool // the events that were read
	restarts int             // of the reader, because its place was lost

	logged [2][]string // by each writer, the audit lines that were acknowledged
}

// begin starts the load: families that rotate, grants that are revoked, users
// who are blocked, logout tokens that are owed and some that are sent, codes
// that are redeemed twice at once, events that are appended and followed.
func begin(t *testing.T, store storage.Store) *trouble {
	t.Helper()
	l := &trouble{t: t, store: store, families: make([]storage.GrantID, 12), done: make([]atomic.Uint64, 12), followed: map[string]bool{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { l.stop(); l.work.Wait() })
	for i := range l.families {
		l.families[i] = storage.GrantID(fmt.Sprintf("user%d.s.family", i))
		family(t, store, l.families[i])
		l.done[i].Store(1)
		l.work.Go(func() { l.rotate(i) })
	}
	for i := range 4 {
		l.work.Go(func() { l.end(i) })
		l.work.Go(func() { l.redeem(i) })
	}
	for i := range l.appended {
		l.work.Go(func() { l.append(i) })
	}
	for i := range l.reported {
		l.work.Go(func() { l.report(i) })
	}
	l.work.Go(l.follow)
	for i := range l.logged {
		l.work.Go(func() { l.log(i) })
	}
	return l
}

// timed runs one operation and reports whether it was acknowledged. Any
// refusal but those that are allowed fails the test.
func (l *trouble) timed(what string, op func() error, allowed ...error) bool {
	began := time.Now()
	err := op()
	if took := int64(time.Since(began)); took > l.slowest.Load() {
		l.slowest.Store(took)
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return false
		}
	}
	switch {
	case err == nil:
		return true
	case failed(err):
		l.failures.Add(1)
	case l.ctx.Err() == nil:
		l.t.Errorf("%s: %v", what, err)
	}
	return false
}

func (l *trouble) rotate(i int) {
	for l.ctx.Err() == nil {
		from := l.done[i].Load()
		// Not found would be a rotation that was acknowledged and is lost,
		// reuse would be a family that has forked.
		if l.timed("rotate", func() error { return l.store.Rotate(context.Background(), rotation(l.families[i], from)) }) {
			l.done[i].Store(from + 1)
		}
	}
}

func (l *trouble) end(i int) {
	for n := 0; l.ctx.Err() == nil; n++ {
		u := storage.User{ID: storage.UserID(fmt.Sprintf("ending%d-%d", i, n)), Name: fmt.Sprintf("ending%d-%d", i, n)}
		id := storage.GrantID(u.ID) + ".s.g"
		if !l.timed("create", func() error { return l.store.CreateGrant(context.Background(), grant(id)) }) ||
			!l.timed("create user", func() error { return l.store.CreateUser(context.Background(), u) }) {
			continue
		}
		if l.timed("revoke", func() error { return l.store.RevokeGrant(context.Background(), id, start, "test") }, storage.ErrNotFound) {
			l.mu.Lock()
			l.revoked = append(l.revoked, id)
			l.mu.Unlock()
		}
		l.owe(id.Session(), n%2 == 0)
		u, err := l.store.User(context.Background(), u.ID)
		if err != nil {
			continue
		}
		u.Block = &storage.Block{Reason: "test", At: start}
		if l.timed("block", func() error { return l.store.UpdateUser(context.Background(), u) }, storage.ErrNotFound, storage.ErrConflict) {
			l.mu.Lock()
			l.blocked = append(l.blocked, u.ID)
			l.mu.Unlock()
		}
	}
}

func (l *trouble) owe(x storage.SessionID, send bool) {
	if !l.timed("owe", func() error { return l.store.AddLogouts(context.Background(), []storage.Logout{logout(x)}) }) {
		return
	}
	list := &l.owed
	if send {
		if !l.timed("send", func() error { return l.store.FinishLogout(context.Background(), "spa", x) }) {
			return
		}
		list = &l.sent
	}
	l.mu.Lock()
	*list = append(*list, x)
	l.mu.Unlock()
}

func (l *trouble) redeem(i int) {
	for n := 0; l.ctx.Err() == nil; n++ {
		id := storage.GrantID(fmt.Sprintf("code%d-%d.s.g", i, n))
		if !l.timed("create", func() error { return l.store.CreateGrant(context.Background(), grant(id)) }) {
			continue
		}
		var winners atomic.Int64
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if l.timed("redeem", func() error { return l.store.Redeem(context.Background(), redemption(id)) }, storage.ErrReused, storage.ErrNotFound) {
					winners.Add(1)
				}
			})
		}
		both.Wait()
		if winners.Load() > 1 {
			l.t.Errorf("the code of %s was redeemed twice", id)
		}
	}
}

// report adds to a case.
func (l *trouble) report(i int) {
	id := storage.UserID(fmt.Sprint("suspect", i))
	for l.ctx.Err() == nil {
		c, err := l.store.Case(context.Background(), id)
		if errors.Is(err, storage.ErrNotFound) && l.reported[i].Load() == 0 {
			c, err = aCase(id), nil
		}
		if err != nil {
			if !failed(err) {
				l.t.Errorf("case: %v", err)
			}
			continue
		}
		c.Reported++
		if l.timed("report", func() error { return l.store.PutCase(context.Background(), c) }) {
			l.reported[i].Store(c.Reported)
		}
	}
}

// listed are the events of the nth list of a writer.
func listed(writer, n int) []storage.Event {
	a, b := event(fmt.Sprintf("%d-%d-a", writer, n)), event(fmt.Sprintf("%d-%d-b", writer, n))
	a.Until, b.Until = start.Add(time.Hour), start.Add(time.Hour)
	return []storage.Event{a, b}
}

func (l *trouble) append(i int) {
	for n := 0; l.ctx.Err() == nil; n++ {
		if l.timed("append", func() error { return l.store.AppendEvents(context.Background(), listed(i, n), start) }) {
			l.mu.Lock()
			l.appended[i] = append(l.appended[i], n)
			l.mu.Unlock()
		}
	}
}

// follow reads the events as a server does.
func (l *trouble) follow() {
	var after storage.Cursor
	for l.ctx.Err() == nil {
		err := l.store.AwaitEvents(l.ctx, after)
		var list []storage.Event
		next := after
		if err == nil {
			list, next, err = l.store.Events(l.ctx, after, 100)
		}
		l.mu.Lock()
		after = next
		for _, e := range list {
			l.followed[e.ID] = true
		}
		switch {
		case errors.Is(err, storage.ErrCursor):
			after = ""
			l.restarts++
		case err != nil && !failed(err):
			l.t.Errorf("follow: %v", err)
		}
		l.mu.Unlock()
	}
}

// unread returns an event that was acknowledged and that the reader has not
// read, "" if there is none.
func (l *trouble) unread() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, lists := range l.appended {
		for _, n := range lists {
			for _, e := range listed(i, n) {
				if !l.followed[e.ID] {
					return e.ID
				}
			}
		}
	}
	return ""
}

// checkEvents checks that all that was acknowledged is there, each writer's in
// its order. What is there twice was asked again, because the answer was lost.
func (l *trouble) checkEvents() {
	t := l.t
	t.Helper()
	ids, _ := follow(t, l.store, "")
	var order [len(l.appended)][]string
	there := map[string]bool{}
	for i, id := range ids {
		if list, a := strings.CutSuffix(id, "-a"); a && (i+1 == len(ids) || ids[i+1] != list+"-b") {
			t.Errorf("%s is without its list", id)
		}
		if writer := id[0] - '0'; !there[id] {
			order[writer] = append(order[writer], id)
		}
		there[id] = true
	}
	for i, lists := range l.appended {
		var acknowledged []string
		for _, n := range lists {
			for _, e := range listed(i, n) {
				acknowledged = append(acknowledged, e.ID)
			}
		}
		// What was not acknowledged may be between.
		left := acknowledged
		for _, id := range order[i] {
			if len(left) > 0 && id == left[0] {
				left = left[1:]
			}
		}
		if len(left) > 0 {
			t.Errorf("%s was acknowledged, and is not there or not in its place", left[0])
		}
		if len(acknowledged) == 0 {
			t.Error("no events were appended: the test shows nothing")
		}
	}
	t.Logf("%d events, %d of them and %d lists acknowledged; the reader began anew %d times", len(ids), len(there), len(l.appended[0])+len(l.appended[1]), l.restarts)
}

// progress waits until every family has rotated n more times.
func (l *trouble) progress(n uint64) {
	l.t.Helper()
	var from []uint64
	for i := range l.done {
		from = append(from, l.done[i].Load())
	}
	eventually(l.t, "every family rotates on", func() bool {
		for i := range l.done {
			if l.done[i].Load() < from[i]+n {
				return false
			}
		}
		return true
	})
}

// finish ends the load and checks that all that was acknowledged is so.
func (l *trouble) finish() {
	t := l.t
	t.Helper()
	eventually(t, "the reader has read what was acknowledged until now", func() bool { return l.unread() == "" })
	l.stop()
	l.work.Wait()
	l.checkEvents()
	l.checkAudit()
	for i, id := range l.families {
		st, err := l.store.Standing(t.Context(), id, "spa")
		check(t, err)
		// One more than acknowledged is a rotation whose answer was lost.
		if done := l.done[i].Load(); st.Grant.Generation != done && st.Grant.Generation != done+1 || !st.Grant.RevokedAt.IsZero() {
			t.Errorf("%s: generation %d was acknowledged, %d is stored; revoked: %s", id, done, st.Grant.Generation, st.Grant.RevokedFor)
		}
	}
	for _, id := range l.revoked {
		st, err := l.store.Standing(t.Context(), id, "spa")
		if !errors.Is(err, storage.ErrNotFound) && (err != nil || st.Grant.RevokedAt.IsZero()) {
			t.Errorf("%s was revoked, and lives: %v", id, err)
		}
	}
	for _, id := range l.blocked {
		u, err := l.store.User(t.Context(), id)
		if err != nil || u.Block == nil {
			t.Errorf("%s was blocked, and is not: %+v, %v", id, u, err)
		}
	}
	list, err := l.store.ListCases(t.Context(), storage.Page{Limit: 10})
	check(t, err)
	if len(list) != len(l.reported) {
		t.Errorf("%d cases are listed, %d were made", len(list), len(l.reported))
	}
	for i := range l.reported {
		c, err := l.store.Case(t.Context(), storage.UserID(fmt.Sprint("suspect", i)))
		if done := l.reported[i].Load(); err != nil || done == 0 || c.Reported < done {
			t.Errorf("%d reports were acknowledged, %d are in the case: %v", done, c.Reported, err)
		}
	}
	for _, x := range l.owed {
		if _, err := l.store.Logout(t.Context(), "spa", x); err != nil {
			t.Errorf("a logout token is owed for %s, and is not: %v", x, err)
		}
	}
	for _, x := range l.sent {
		if _, err := l.store.Logout(t.Context(), "spa", x); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the logout token for %s was sent, and is owed again: %v", x, err)
		}
	}
	if slowest := time.Duration(l.slowest.Load()); slowest > bound {
		t.Errorf("an operation took %s: %s is the bound", slowest, bound)
	}
	t.Logf("%d revocations, %d blocks, %d logouts owed and %d sent acknowledged, %d operations failed, the slowest took %s", len(l.revoked), len(l.blocked), len(l.owed), len(l.sent), l.failures.Load(), time.Duration(l.slowest.Load()))
	if len(l.revoked) == 0 || len(l.blocked) == 0 || len(l.owed) == 0 || len(l.sent) == 0 {
		t.Error("nothing was revoked, blocked, owed or sent: the test shows nothing")
	}
}

func (l *trouble) fails() {
	l.t.Helper()
	before := l.failures.Load()
	eventually(l.t, "operations fail", func() bool { return l.failures.Load() > before })
}

func TestRestart(t *testing.T) {
	server := redistest.Single(t, "--appendfsync", "always")
	s := open(t, "redis://"+server.Addr)
	l := begin(t, s)
	for range 3 {
		l.progress(20)
		server.Kill()
		l.fails()
		want(t, s.Ready(t.Context()), storage.ErrUnavailable)
		server.Start()
		l.progress(20)
		check(t, s.Ready(t.Context()))
	}
	l.finish()
}

// TestReadyAtOnceAfterAnOutage: after as many failed dials as the pool has
// connections, go-redis repeats the last failure for a second without dialling.
func TestReadyAtOnceAfterAnOutage(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr+"?connections=2")
	server.Kill()
	want(t, s.Ready(t.Context()), storage.ErrUnavailable) // after many dials
	server.Start()
	check(t, s.Ready(t.Context()))
}

func TestSentinelFailover(t *testing.T) {
	servers := redistest.NewSentinel(t)
	s := open(t, servers.URL())
	l := begin(t, s)
	for range 2 {
		l.progress(20)
		old := servers.Primary()
		old.Kill()
		l.fails()
		eventually(t, "the Sentinels promote the replica", func() bool {
			p := servers.Primary()
			return p != old && info(t, p, "role") == "master"
		})
		// Alone it can't keep what it is told: that is said, and nothing is
		// acknowledged.
		want(t, s.Ready(t.Context()), storage.ErrUnavailable)
		old.Start()
		l.progress(20)
		check(t, s.Ready(t.Context()))
	}
	l.finish()
}

func TestClusterFailover(t *testing.T) {
	servers := redistest.NewCluster(t)
	s := open(t, servers.URL())
	l := begin(t, s)
	for slot := range 2 {
		l.progress(20)
		old := servers.Owner(slot * 8000)
		old.Kill()
		l.fails()
		eventually(t, "the replica takes over", func() bool {
			now := servers.Owner(slot * 8000)
			return now != nil && now != old
		})
		old.Start()
		l.progress(20)
		eventually(t, "the store is ready", func() bool { return s.Ready(t.Context()) == nil })
	}
	l.finish()
}

// TestReplicaIsMissing: one primary of several has lost its replica, and what it
// is told may be lost with it.
func TestReplicaIsMissing(t *testing.T) {
	servers := redistest.NewCluster(t)
	s := open(t, servers.URL())
	replicaOf := func(key string) *redistest.Server {
		at := slices.Index(servers.Servers, servers.Owner(slot(t, servers.Servers[0], key)))
		return servers.Servers[at+3]
	}
	u := storage.User{Name: "alice"}
	replica := replicaOf(s.NameKey(u.Name))
	for n := 0; u.ID == "" || replicaOf("{"+string(u.ID)+"}") == replica; n++ {
		u.ID = storage.UserID(fmt.Sprint("u", n))
	}
	replica.Kill()
	// The account would last; its name would not.
	if err := s.CreateUser(t.Context(), u); !failed(err) {
		t.Errorf("got %v", err)
	}
	for _, replica := range servers.Servers[3:] {
		servers.Settle()
		eventually(t, "it is ready", func() bool { return s.Ready(t.Context()) == nil })
		replica.Kill()
		eventually(t, "it is not ready", func() bool { return errors.Is(s.Ready(t.Context()), storage.ErrUnavailable) })
	}
}

func TestPrimaryHangs(t *testing.T) {
	servers := redistest.NewCluster(t)
	s := open(t, servers.URL())
	l := begin(t, s)
	l.progress(20)
	old := servers.Owner(0)
	old.Pause()
	l.fails()
	eventually(t, "the replica takes over", func() bool {
		for _, x := range servers.Servers {
			if x != old && info(t, x, "role") == "master" && strings.Count(do(t, x, "CLUSTER", "NODES"), "fail") > 0 {
				owner := ownerSeenBy(t, x, old)
				return owner
			}
		}
		return false
	})
	old.Resume() // it believes for a moment that it still is the primary
	l.progress(20)
	l.finish()
}

// ownerSeenBy reports whether x knows that old serves no slots any more.
func ownerSeenBy(t *testing.T, x, old *redistest.Server) bool {
	for line := range strings.Lines(do(t, x, "CLUSTER", "NODES")) {
		if strings.Contains(line, old.Addr+"@") {
			return len(strings.Fields(line)) == 8
		}
	}
	return false
}

func TestSlotMoves(t *testing.T) {
	servers := redistest.NewCluster(t)
	s := open(t, servers.URL())
	l := begin(t, s)
	// All of these are in one slot.
	ids := make([]storage.GrantID, 20)
	for i := range ids {
		ids[i] = storage.GrantID(fmt.Sprintf("user0.s.moving%d", i))
		family(t, s, ids[i])
	}
	slot := slot(t, servers.Servers[0], "{user0}")
	from := servers.Owner(slot)
	var to *redistest.Server
	for _, x := range servers.Servers {
		if x != from && info(t, x, "role") == "master" {
			to = x
		}
	}
	generation := uint64(1)
	rotateAll := func() {
		t.Helper()
		for _, id := range ids {
			check(t, s.Rotate(t.Context(), rotation(id, generation)))
			if st, err := s.Standing(t.Context(), id, "spa"); err != nil || st.Grant.Generation != generation+1 {
				t.Errorf("%s: %+v, %v", id, st.Grant.Generation, err)
			}
		}
		generation++
	}
	rotateAll()
	servers.Migrate(slot, to, rotateAll)
	rotateAll()
	l.progress(20)
	l.finish()
}

func TestSlow(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, with("redis://"+server.Addr, "timeout=300ms"))
	family(t, s, "u.s.g")
	server.Pause()
	began := time.Now()
	_, err := s.Standing(t.Context(), "u.s.g", "spa")
	want(t, err, storage.ErrUnavailable)
	if err := s.Rotate(t.Context(), rotation("u.s.g", 1)); !failed(err) {
		t.Errorf("got %v", err)
	}
	want(t, s.Ready(t.Context()), storage.ErrUnavailable)
	if took := time.Since(began); took > bound {
		t.Errorf("it took %s to give up", took)
	}
	server.Resume()
	eventually(t, "it recovers", func() bool { return s.Ready(t.Context()) == nil })
	// What was sent before may have happened since; to ask again does no harm.
	check(t, s.Rotate(t.Context(), rotation("u.s.g", 1)))
	if st, err := s.Standing(t.Context(), "u.s.g", "spa"); err != nil || st.Grant.Generation != 2 {
		t.Errorf("generation %d, %v", st.Grant.Generation, err)
	}
}

// TestNobodyToAsk: the answer is lost, and then nobody is there to ask again.
func TestNobodyToAsk(t *testing.T) {
	server := redistest.Single(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := open(t, with("redis://"+proxy.Addr, "timeout=500ms"))
	check(t, s.CreateGrant(t.Context(), grant("u.s.g")))
	s.AddHook(&between{n: 1, do: func() { proxy.Refuse(true) }})
	cut := proxy.CutAfterRequest(1, "evalsha")
	want(t, s.RevokeGrant(t.Context(), "u.s.g", start, "test"), storage.ErrUnknown)
	happened(t, cut)
	want(t, s.RevokeGrant(t.Context(), "u.s.g", start, "test"), storage.ErrUnavailable)
}

// TestOneLimit: an operation of several trips has one time limit, and what it
// tidies up after it is within that.
func TestOneLimit(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	s.AddHook(&between{n: 1, do: server.Kill}) // the name is reserved
	began := time.Now()
	want(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}), storage.ErrUnavailable)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s, with a limit of two seconds", took)
	}
}

func TestFull(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	family(t, s, "u.s.before")
	do(t, server, "CONFIG", "SET", "maxmemory", "1")
	err := s.CreateGrant(t.Context(), grant("u.s.after"))
	want(t, err, storage.ErrUnavailable)
	if !strings.Contains(err.Error(), "OOM") {
		t.Errorf("the error does not say why: %v", err)
	}
	want(t, s.Rotate(t.Context(), rotation("u.s.before", 1)), storage.ErrUnavailable)
	want(t, s.RevokeGrant(t.Context(), "u.s.before", start, "test"), storage.ErrUnavailable)
	want(t, s.Once(t.Context(), [32]byte{1}, start, start.Add(time.Minute)), storage.ErrUnavailable)
	want(t, s.AddLogouts(t.Context(), []storage.Logout{logout("u.s")}), storage.ErrUnavailable)
	want(t, s.AppendEvents(t.Context(), []storage.Event{event("a"), event("b")}, start), storage.ErrUnavailable)
	want(t, s.Ready(t.Context()), storage.ErrUnavailable)
	if list, _, err := s.Events(t.Context(), "", 10); err != nil || len(list) > 0 {
		t.Errorf("a refused write left events: %v, %v", list, err)
	}
	st, err := s.Standing(t.Context(), "u.s.before", "spa")
	check(t, err)
	if st.Grant.Generation != 1 || !st.Grant.RevokedAt.IsZero() {
		t.Errorf("a refused write left something: %+v", st.Grant)
	}
	do(t, server, "CONFIG", "SET", "maxmemory", "0")
	check(t, s.Ready(t.Context()))
	check(t, s.Once(t.Context(), [32]byte{1}, start, start.Add(time.Minute)))
	check(t, s.Rotate(t.Context(), rotation("u.s.before", 1)))
}

// TestPasswordChanges: a server that lets nobody in has said nothing about what
// is stored.
func TestPasswordChanges(t *testing.T) {
	server := redistest.Single(t)
	do(t, server, "ACL", "SETUSER", "solegate", "on", ">hunter1", "~*", "+@all")
	s := open(t, "redis://solegate:hunter1@"+server.Addr)
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	family(t, s, "u.s.g")
	do(t, server, "ACL", "SETUSER", "solegate", "resetpass", ">hunter2")
	do(t, server, "CLIENT", "KILL", "USER", "solegate")
	_, err := s.Standing(t.Context(), "u.s.g", "spa")
	want(t, err, storage.ErrUnavailable)
	_, err = s.ListUsers(t.Context(), storage.Page{Limit: 10}) // more than is sent together
	want(t, err, storage.ErrUnavailable)
	if err := s.Rotate(t.Context(), rotation("u.s.g", 1)); !failed(err) {
		t.Errorf("got %v", err)
	}
	want(t, s.Ready(t.Context()), storage.ErrUnavailable)
	if !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("the error does not say why, or too much: %v", err)
	}
	do(t, server, "ACL", "SETUSER", "solegate", "resetpass", ">hunter1")
	check(t, s.Ready(t.Context()))
	check(t, s.Rotate(t.Context(), rotation("u.s.g", 1)))
}

func TestScriptsAreGone(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	family(t, s, "u.s.g")
	do(t, server, "SCRIPT", "FLUSH")
	check(t, s.Rotate(t.Context(), rotation("u.s.g", 1)))
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
}

func TestOpenRefuses(t *testing.T) {
	secure := redistest.NewTLS(t)
	aof := redistest.Single(t)
	memory := redistest.Single(t, "--appendonly", "no")
	evicting := redistest.Single(t, "--maxmemory-policy", "allkeys-lru")
	old := redistest.NewProxy(t, aof.Addr)
	old.Edit(func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("redis_version:7"), []byte("redis_version:5"))
	})
	newer := redistest.Single(t)
	do(t, newer, "SET", "sg:{r}format", "3")
	for name, c := range map[string]struct{ url, says string }{
		"nobody there":          {"redis://127.0.0.1:1?timeout=200ms", "refused"},
		"password expected":     {"rediss://127.0.0.1" + port(secure.Addr) + "?ca=" + secure.CA + "&certificate=" + secure.Cert + "&key=" + secure.Key, "NOAUTH"},
		"wrong password":        {"rediss://solegate:hunter2@127.0.0.1" + port(secure.Addr) + "?ca=" + secure.CA + "&certificate=" + secure.Cert + "&key=" + secure.Key, "WRONGPASS"},
		"TLS expected":          {"redis://" + secure.Addr + "?timeout=500ms", ""},
		"unknown authority":     {"rediss://" + secure.Addr + "?timeout=500ms", "certificate"},
		"no client certificate": {"rediss://" + secure.Addr + "?timeout=500ms&ca=" + secure.CA, ""},
		"no append-only file":   {"redis://" + memory.Addr, "appendonly"},
		"evicts":                {"redis://" + evicting.Addr, "noeviction"},
		"too old":               {"redis://" + old.Addr, "6.2"},
		"written by a newer":    {"redis://" + newer.Addr, "format 3"},
		"no Sentinel":           {"redis+sentinel://" + aof.Addr + "/x?timeout=300ms", ""},
		"no cluster":            {"redis+cluster://" + aof.Addr + "?timeout=300ms", "cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := redis.Open(t.Context(), redis.Config{URL: c.url})
			if err == nil {
				s.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q expected in: %v", c.says, err)
			}
		})
	}
	for _, server := range []*redistest.Server{memory, evicting} {
		s, err := redis.Open(t.Context(), redis.Config{URL: "redis://" + server.Addr, Development: true})
		if err != nil {
			t.Errorf("development mode only warns: %v", err)
			continue
		}
		s.Close()
	}
	file := t.TempDir() + "/password"
	write(t, file, secure.Password+"\n")
	s := open(t, "rediss://solegate@"+secure.Addr+"?ca="+secure.CA+"&certificate="+secure.Cert+"&key="+secure.Key+"&password_file="+file)
	family(t, s, "u.s.g")
}

func write(t testing.TB, file, text string) {
	t.Helper()
	check(t, os.WriteFile(file, []byte(text), 0o600))
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':'):] }
