// Package storagetest is the one suite that every backend passes:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storagetest.Opener { ... })
//	}
//
// There is no optional half. The same suite runs again with latency before and
// after every call, where races show that a fast store hides.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Opener opens the same data again each time it is called: another process's
// view of it, or the view after a restart. Stores are closed by the suite.
type Opener func() storage.Store

// Run runs the suite; fresh returns an Opener of new, empty data.
func Run(t *testing.T, fresh func(*testing.T) Opener) {
	t.Run("Plain", func(t *testing.T) { run(t, fresh, func(s storage.Store) storage.Store { return s }) })
	t.Run("Latency", func(t *testing.T) {
		run(t, fresh, func(s storage.Store) storage.Store { return WithFaults(s, Latency(2*time.Millisecond)) })
	})
}

func run(t *testing.T, fresh func(*testing.T) Opener, wrap func(storage.Store) storage.Store) {
	open := func(t *testing.T) (storage.Store, Opener) {
		opener := fresh(t)
		s := opener()
		t.Cleanup(func() { s.Close() })
		return wrap(s), func() storage.Store { return wrap(opener()) }
	}
	for _, test := range []struct {
		name string
		test func(*testing.T, storage.Store, Opener)
	}{
		{"Clients", testClients},
		{"ResourceServers", testResourceServers},
		{"Users", testUsers},
		{"Sessions", testSessions},
		{"RenewSession", testRenewSession},
		{"MadeAgain", testMadeAgain},
		{"OddRecords", testOddRecords},
		{"Standing", testStanding},
		{"Redeem", testRedeem},
		{"RedeemRace", testRedeemRace},
		{"Rotate", testRotate},
		{"RotateRace", testRotateRace},
		{"RevokeGrant", testRevokeGrant},
		{"ListGrants", testListGrants},
		{"Bound", testBound},
		{"BoundRace", testBoundRace},
		{"Keep", testKeep},
		{"OnlyUntil", testOnlyUntil},
		{"OnlyUntilRace", testOnlyUntilRace},
		{"Once", testOnce},
		{"Logouts", testLogouts},
		{"LogoutsRace", testLogoutsRace},
		{"EachLogout", testEachLogout},
		{"Events", testEvents},
		{"EventsOfAnother", testEventsOfAnother},
		{"EventsRace", testEventsRace},
		{"AwaitEvents", testAwaitEvents},
		{"EventsEnd", testEventsEnd},
		{"Cursors", func(t *testing.T, s storage.Store, _ Opener) {
			other, _ := open(t)
			testCursors(t, s, other)
		}},
		{"Cases", testCases},
		{"CasesRace", testCasesRace},
		{"CaseBounds", testCaseBounds},
		{"CasesEnd", testCasesEnd},
		{"Audit", testAudit},
		{"AuditOfAnother", testAuditOfAnother},
		{"AuditRace", testAuditRace},
		{"AuditEnd", testAuditEnd},
		{"AuditUnfit", testAuditUnfit},
		{"AuditShortened", testAuditShortened},
		{"AuditCopied", testAuditCopied},
		{"KeyRing", testKeyRing},
		{"Count", testCount},
		{"Sweep", testSweep},
		{"Check", testCheck},
		{"TwoHandles", testTwoHandles},
		{"CancelledContext", testCancelledContext},
		{"Closed", testClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, opener := open(t)
			test.test(t, s, opener)
		})
	}
}

// start is when the tests take place: a time with nanoseconds, in another
// zone, that must come back as the same instant.
var start = time.Date(2026, 11, 23, 14, 0, 0, 123456789, time.FixedZone("", 3600))

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testClients(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	c := clients.Client{
		ID: "spa", Name: "An app, ünïcödé ✓ '\"%_\\", RedirectURIs: []clients.RedirectURI{"https://a.example/cb"},
		Origins: []clients.Origin{"https://a.example"}, Audiences: []string{"https://api.example"}, Scopes: []string{"openid"},
		IDTokenAlg: "ES256", AccessTokenLife: time.Minute, Epoch: 1<<63 + 1, CreatedAt: start, UpdatedAt: start,
		AuthMethod: clients.PrivateKeyJWT, JWKS: []byte(`{"keys":[{"kid":"\u003ca\u003e ü","kty":"x"}]}`), SecretHash: [32]byte{1, 2, 255},
		GrantTypes: []string{"client_credentials"}, Profile: clients.Hardened, RequireDPoP: true, BackchannelLogoutURI: "https://a.example/?x=<&>",
	}
	_, err := s.Client(ctx, "spa")
	want(t, err, storage.ErrNotFound)
	want(t, s.UpdateClient(ctx, c), storage.ErrNotFound)
	want(t, s.RemoveClient(ctx, "spa"), storage.ErrNotFound)
	check(t, s.CreateClient(ctx, c))
	want(t, s.CreateClient(ctx, c), storage.ErrExists)

	got, err := s.Client(ctx, "spa")
	check(t, err)
	version := got.Version
	got.Version = 0
	same(t, got, c)

	got.Version, got.Name = version, "renamed"
	check(t, s.UpdateClient(ctx, got))
	want(t, s.UpdateClient(ctx, got), storage.ErrConflict)
	again, err := s.Client(ctx, "spa")
	check(t, err)
	if again.Name != "renamed" || again.Version == version {
		t.Errorf("after the update: %+v", again)
	}

	for i := range 7 {
		c.ID = clients.ID(fmt.Sprintf("x%d", i))
		check(t, s.CreateClient(ctx, c))
	}
	same(t, walk(t, 3, func(p storage.Page) ([]string, error) {
		list, err := s.ListClients(ctx, p)
		return names(list, func(c clients.Client) string { return string(c.ID) }), err
	}), []string{"spa", "x0", "x1", "x2", "x3", "x4", "x5", "x6"})

	check(t, s.RemoveClient(ctx, "spa"))
	_, err = s.Client(ctx, "spa")
	want(t, err, storage.ErrNotFound)
	reopened := open()
	defer reopened.Close()
	list, err := reopened.ListClients(ctx, storage.Page{Limit: 100})
	check(t, err)
	if len(list) != 7 || list[0].Version == 0 {
		t.Errorf("reopened: %+v", list)
	}
}

func testResourceServers(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	rs := clients.ResourceServer{ID: "api", Audience: "https://api.example", SecretHash: [32]byte{1, 2, 255}, JWKS: []byte(`{"keys":[]}`), AuthMethod: clients.PrivateKeyJWT, CreatedAt: start, UpdatedAt: start}
	_, err := s.ResourceServer(ctx, "api")
	want(t, err, storage.ErrNotFound)
	want(t, s.UpdateResourceServer(ctx, rs), storage.ErrNotFound)
	check(t, s.CreateResourceServer(ctx, rs))
	want(t, s.CreateResourceServer(ctx, rs), storage.ErrExists)
	got, err := s.ResourceServer(ctx, "api")
	check(t, err)
	version := got.Version
	got.Version = 0
	same(t, got, rs)
	got.Version, got.Disabled = version, true
	check(t, s.UpdateResourceServer(ctx, got))
	want(t, s.UpdateResourceServer(ctx, got), storage.ErrConflict)
	list, err := s.ListResourceServers(ctx, storage.Page{Limit: 10})
	check(t, err)
	if len(list) != 1 || !list[0].Disabled {
		t.Errorf("listed: %+v", list)
	}
	for i := range 5 {
		rs.ID = clients.ID(fmt.Sprintf("x%d", i))
		check(t, s.CreateResourceServer(ctx, rs))
	}
	same(t, walk(t, 2, func(p storage.Page) ([]string, error) {
		list, err := s.ListResourceServers(ctx, p)
		return names(list, func(rs clients.ResourceServer) string { return string(rs.ID) }), err
	}), []string{"api", "x0", "x1", "x2", "x3", "x4"})
	check(t, s.RemoveResourceServer(ctx, "api"))
	want(t, s.RemoveResourceServer(ctx, "api"), storage.ErrNotFound)
}

func testUsers(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	u := user("u1", "alice")
	u.Block = &storage.Block{Rule: "flood", Reason: "spam", At: start, Until: start.Add(time.Hour)}
	u.Throttle = &storage.Throttle{Rule: "flood", Reason: "spam", At: start, Until: start.Add(time.Hour), Every: time.Minute}
	u.Consents = map[clients.ID][]string{"spa": {"openid", "email"}}
	u.Admin = true
	_, err := s.User(ctx, "u1")
	want(t, err, storage.ErrNotFound)
	_, err = s.UserByName(ctx, "alice")
	want(t, err, storage.ErrNotFound)
	want(t, s.UpdateUser(ctx, u), storage.ErrNotFound)
	check(t, s.CreateUser(ctx, u))
	want(t, s.CreateUser(ctx, u), storage.ErrExists)
	want(t, s.CreateUser(ctx, user("u2", "alice")), storage.ErrExists)
	check(t, s.CreateUser(ctx, user("u2", "bob")))

	got, err := s.UserByName(ctx, "alice")
	check(t, err)
	version := got.Version
	got.Version = 0
	same(t, got, u)
	got.Version, got.Name = version, "bob"
	want(t, s.UpdateUser(ctx, got), storage.ErrExists)
	got.Name = "carol"
	check(t, s.UpdateUser(ctx, got))
	want(t, s.UpdateUser(ctx, got), storage.ErrConflict)
	_, err = s.UserByName(ctx, "alice")
	want(t, err, storage.ErrNotFound)
	if got, err := s.UserByName(ctx, "carol"); err != nil || got.ID != "u1" {
		t.Errorf("by the new name: %+v, %v", got, err)
	}
	same(t, walk(t, 1, func(p storage.Page) ([]string, error) {
		list, err := s.ListUsers(ctx, p)
		return names(list, func(u storage.User) string { return u.Name }), err
	}), []string{"bob", "carol"})

	check(t, s.CreateSession(ctx, session("u1.s1", "u1")))
	check(t, s.RemoveUser(ctx, "u1"))
	want(t, s.RemoveUser(ctx, "u1"), storage.ErrNotFound)
	_, _, err = s.SessionUser(ctx, "u1.s1")
	want(t, err, storage.ErrNotFound)
}

func testSessions(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	x := session("u1.s1", "u1")
	check(t, s.CreateSession(ctx, x))
	want(t, s.CreateSession(ctx, x), storage.ErrExists)
	_, _, err := s.SessionUser(ctx, "u1.s1")
	want(t, err, storage.ErrNotFound) // its user is gone
	check(t, s.CreateUser(ctx, user("u1", "alice")))
	got, u, err := s.SessionUser(ctx, "u1.s1")
	check(t, err)
	same(t, got, x)
	if u.Name != "alice" || u.Version == 0 {
		t.Errorf("its user: %+v", u)
	}

	later := start.Add(time.Hour)
	check(t, s.TouchSession(ctx, "u1.s1", later, later.Add(time.Hour)))
	check(t, s.TouchSession(ctx, "u1.s1", start, start)) // never back
	check(t, s.TouchSession(ctx, "nobody", start, start))
	got, _, err = s.SessionUser(ctx, "u1.s1")
	check(t, err)
	if !got.LastSeen.Equal(later) || !got.IdleExpires.Equal(later.Add(time.Hour)) {
		t.Errorf("after the touch: %+v", got)
	}
	check(t, s.EndSession(ctx, "u1.s1", later))
	check(t, s.EndSession(ctx, "u1.s1", later.Add(time.Hour)))
	want(t, s.EndSession(ctx, "nobody", later), storage.ErrNotFound)
	check(t, s.TouchSession(ctx, "u1.s1", later.Add(2*time.Hour), later.Add(3*time.Hour)))
	got, _, err = s.SessionUser(ctx, "u1.s1")
	check(t, err)
	if !got.EndedAt.Equal(later) || !got.LastSeen.Equal(later) {
		t.Errorf("after the end: %+v", got)
	}
	check(t, s.CreateSession(ctx, session("u1.s2", "u1")))
	check(t, s.CreateSession(ctx, session("u2.s3", "u2")))
	same(t, walk(t, 1, func(p storage.Page) ([]string, error) {
		list, err := s.ListSessions(ctx, "u1", p)
		return names(list, func(x storage.Session) string { return string(x.ID) }), err
	}), []string{"u1.s1", "u1.s2"})
}

func testStanding(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	_, err := s.Standing(ctx, "u1.s1.g1", "spa")
	want(t, err, storage.ErrNotFound)
	g := grant("u1.s1.g1")
	g.Status = storage.Place{List: "AAAAAAAAAAAAAAAA", Index: 1<<32 - 1}
	check(t, s.CreateGrant(ctx, g))
	want(t, s.CreateGrant(ctx, g), storage.ErrExists)
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	same(t, st, storage.Standing{Grant: g})

	u, x := user("u1", "alice"), session("u1.s1", "u1")
	check(t, s.CreateUser(ctx, u))
	check(t, s.CreateSession(ctx, x))
	check(t, s.CreateClient(ctx, clients.Client{ID: "spa"}))
	c, err := s.Client(ctx, "spa")
	check(t, err)
	reopened := open()
	defer reopened.Close()
	st, err = reopened.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if st.ClientVersion != c.Version {
		t.Errorf("the client's version is %d, %d expected", st.ClientVersion, c.Version)
	}
	check(t, s.UpdateClient(ctx, c))
	if again, err := reopened.Standing(ctx, "u1.s1.g1", "spa"); err != nil || again.ClientVersion == c.Version {
		t.Errorf("the client's version stays %d after a change: %v", again.ClientVersion, err)
	}
	st.User.Version, st.ClientVersion = 0, 0
	same(t, st, storage.Standing{Grant: g, Session: x, User: u})
}

func redemption(at time.Time) storage.Redemption {
	return storage.Redemption{Grant: "u1.s1.g1", At: at, IdleExpires: at.Add(time.Hour), Expires: at.Add(24 * time.Hour)}
}

func testRedeem(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	want(t, s.Redeem(ctx, redemption(start)), storage.ErrNotFound)
	g := grant("u1.s1.g1")
	check(t, s.CreateGrant(ctx, g))
	want(t, s.Redeem(ctx, redemption(g.CodeExpires)), storage.ErrExpired)
	at := g.CodeExpires.Add(-time.Nanosecond)
	check(t, s.Redeem(ctx, redemption(at)))
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	g.RedeemedAt, g.Generation, g.IdleExpires, g.Expires = at, 1, at.Add(time.Hour), at.Add(24*time.Hour)
	same(t, st.Grant, g)

	want(t, s.Redeem(ctx, redemption(at)), storage.ErrReused)
	st, err = s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if !st.Grant.RevokedAt.Equal(at) || st.Grant.RevokedFor != storage.ReasonCodeReuse {
		t.Errorf("a reused code left %+v", st.Grant)
	}
	want(t, s.Redeem(ctx, redemption(at.Add(time.Hour))), storage.ErrReused)

	g = grant("u1.s1.g2")
	check(t, s.CreateGrant(ctx, g))
	check(t, s.RevokeGrant(ctx, "u1.s1.g2", start, "by hand"))
	r := redemption(start)
	r.Grant = "u1.s1.g2"
	want(t, s.Redeem(ctx, r), storage.ErrRevoked)
}

const racers = 50

// race runs f racers times at once and counts the errors.
func race(f func(i int) error) map[error]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := make(chan struct{})
	outcomes := map[error]int{}
	for i := range racers {
		wg.Go(func() {
			<-begin
			err := f(i)
			for _, known := range []error{storage.ErrReused, storage.ErrRevoked, storage.ErrExpired, storage.ErrNotFound} {
				if errors.Is(err, known) {
					err = known
				}
			}
			mu.Lock()
			outcomes[err]++
			mu.Unlock()
		})
	}
	close(begin)
	wg.Wait()
	return outcomes
}

func testRedeemRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	got := race(func(i int) error {
		if i%2 == 0 {
			return other.Redeem(ctx, redemption(start))
		}
		return s.Redeem(ctx, redemption(start))
	})
	if got[nil] != 1 || got[storage.ErrReused] != racers-1 {
		t.Errorf("outcomes %v: one winner and %d reuses expected", got, racers-1)
	}
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if st.Grant.RevokedFor != storage.ReasonCodeReuse {
		t.Errorf("the grant lives on: %+v", st.Grant)
	}
}

func rotation(from uint64, at time.Time) storage.Rotation {
	return storage.Rotation{Grant: "u1.s1.g1", From: from, At: at, Grace: 10 * time.Second, IdleExpires: at.Add(time.Hour)}
}

func testRotate(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	generation := func() uint64 {
		t.Helper()
		st, err := s.Standing(ctx, "u1.s1.g1", "spa")
		check(t, err)
		return st.Grant.Generation
	}
	want(t, s.Rotate(ctx, rotation(1, start)), storage.ErrNotFound)
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	want(t, s.Rotate(ctx, rotation(0, start)), storage.ErrNotFound) // the code was not redeemed
	check(t, s.Redeem(ctx, redemption(start)))

	at := start.Add(30 * time.Minute)
	check(t, s.Rotate(ctx, rotation(1, at)))
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if g := st.Grant; g.Generation != 2 || !g.RotatedAt.Equal(at) || !g.IdleExpires.Equal(at.Add(time.Hour)) || !g.Expires.Equal(start.Add(24*time.Hour)) {
		t.Errorf("after a rotation: %+v", g)
	}
	// The same client asks again within the grace window, also by a clock
	// that is behind: nothing changes.
	check(t, s.Rotate(ctx, rotation(1, at)))
	check(t, s.Rotate(ctx, rotation(1, at.Add(10*time.Second))))
	check(t, s.Rotate(ctx, rotation(1, at.Add(-2*time.Second))))
	if n := generation(); n != 2 {
		t.Errorf("asking again left generation %d, 2 expected", n)
	}
	want(t, s.Rotate(ctx, rotation(3, at)), storage.ErrNotFound) // ahead: a restored store
	check(t, s.Rotate(ctx, rotation(2, at.Add(time.Second))))

	// Two generations ago is reuse, at any time.
	want(t, s.Rotate(ctx, rotation(1, at.Add(time.Second))), storage.ErrReused)
	st, err = s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if st.Grant.RevokedFor != storage.ReasonRefreshReuse {
		t.Errorf("reuse left %+v", st.Grant)
	}
	want(t, s.Rotate(ctx, rotation(3, at.Add(2*time.Second))), storage.ErrRevoked)

	for name, c := range map[string]struct {
		prepare func(storage.GrantID)
		from    uint64
		at      time.Time
		want    error
	}{
		"after the grace window": {func(id storage.GrantID) {
			r := rotation(1, start)
			r.Grant = id
			check(t, s.Rotate(ctx, r))
		}, 1, start.Add(10*time.Second + 1), storage.ErrReused},
		"idle":                   {func(storage.GrantID) {}, 1, start.Add(time.Hour), storage.ErrExpired},
		"just before it is idle": {func(storage.GrantID) {}, 1, start.Add(time.Hour - 1), nil},
	} {
		g := grant("u1.s1." + storage.GrantID(name))
		check(t, s.CreateGrant(ctx, g))
		r := redemption(start)
		r.Grant = g.ID
		check(t, s.Redeem(ctx, r))
		c.prepare(g.ID)
		rot := rotation(c.from, c.at)
		rot.Grant = g.ID
		if err := s.Rotate(ctx, rot); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}

	g := grant("u1.s1.absolute")
	check(t, s.CreateGrant(ctx, g))
	check(t, s.Redeem(ctx, storage.Redemption{Grant: "u1.s1.absolute", At: start, IdleExpires: start.Add(9 * time.Hour), Expires: start.Add(time.Hour)}))
	rot := rotation(1, start)
	rot.Grant = "u1.s1.absolute"
	check(t, s.Rotate(ctx, rot))
	// It goes idle no sooner than was said before.
	if st, err := s.Standing(ctx, rot.Grant, "spa"); err != nil || !st.Grant.IdleExpires.Equal(start.Add(9*time.Hour)) {
		t.Errorf("after a rotation it is idle at %s: %v", st.Grant.IdleExpires, err)
	}
	rot = rotation(2, start.Add(time.Hour))
	rot.Grant = "u1.s1.absolute"
	want(t, s.Rotate(ctx, rot), storage.ErrExpired)
}

func testRotateRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	check(t, s.Redeem(ctx, redemption(start)))
	rotate := func(from uint64, at time.Time) map[error]int {
		return race(func(i int) error {
			if i%2 == 0 {
				return other.Rotate(ctx, rotation(from, at))
			}
			return s.Rotate(ctx, rotation(from, at))
		})
	}
	// Within the grace window all of them are the same client: one family.
	if got := rotate(1, start.Add(time.Second)); got[nil] != racers {
		t.Errorf("outcomes %v: all nil expected", got)
	}
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if st.Grant.Generation != 2 || !st.Grant.RevokedAt.IsZero() {
		t.Errorf("the family after the race: %+v", st.Grant)
	}
	// After it, all of them are thieves.
	if got := rotate(1, start.Add(time.Minute)); got[nil] != 0 || got[storage.ErrReused] < 1 || got[storage.ErrReused]+got[storage.ErrRevoked] != racers {
		t.Errorf("outcomes %v: no nil expected", got)
	}
	st, err = s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if st.Grant.RevokedAt.IsZero() || st.Grant.Generation != 2 {
		t.Errorf("the family after reuse: %+v", st.Grant)
	}
}

func testRevokeGrant(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	want(t, s.RevokeGrant(ctx, "u1.s1.g1", start, "x"), storage.ErrNotFound)
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	check(t, s.RevokeGrant(ctx, "u1.s1.g1", start, "first"))
	check(t, s.RevokeGrant(ctx, "u1.s1.g1", start.Add(time.Hour), "second"))
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if !st.Grant.RevokedAt.Equal(start) || st.Grant.RevokedFor != "first" {
		t.Errorf("got %+v", st.Grant)
	}
}

func testListGrants(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	for _, id := range []storage.GrantID{"u1.s1.b", "u1.s1.a", "u1.s0.c"} {
		check(t, s.CreateGrant(ctx, grant(id)))
	}
	check(t, s.CreateGrant(ctx, grant("u2.s2.other")))
	same(t, walk(t, 2, func(p storage.Page) ([]string, error) {
		list, err := s.ListGrants(ctx, "u1", p)
		return names(list, func(g storage.Grant) string { return string(g.ID) }), err
	}), []string{"u1.s0.c", "u1.s1.a", "u1.s1.b"})
}

func testKeyRing(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	_, err := s.KeyRing(ctx)
	want(t, err, storage.ErrNotFound)
	r := storage.KeyRing{Root: []byte{0, 1, 255}, Keys: []storage.Key{{ID: "k", Algorithm: "ES256", Sealed: []byte{9}, Public: []byte(`{"kty":"EC"}`), CreatedAt: start, ActiveAt: start}}}
	check(t, s.PutKeyRing(ctx, r))
	want(t, s.PutKeyRing(ctx, r), storage.ErrConflict)
	got, err := s.KeyRing(ctx)
	check(t, err)
	version := got.Version
	got.Version = 0
	same(t, got, r)
	if version == 0 {
		t.Error("the stored ring has version 0")
	}
	got.Version = version
	other := open()
	defer other.Close()
	outcomes := map[bool]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 10 {
		store := s
		if i%2 == 0 {
			store = other
		}
		wg.Go(func() {
			err := store.PutKeyRing(ctx, got)
			mu.Lock()
			outcomes[err == nil]++
			mu.Unlock()
			if err != nil && !errors.Is(err, storage.ErrConflict) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if outcomes[true] != 1 {
		t.Errorf("%d of 10 replaced the same version", outcomes[true])
	}
}

func testCount(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	now := time.Unix(1_000_000*60, 0)
	other := open()
	defer other.Close()
	var wg sync.WaitGroup
	for i := range racers {
		store := s
		if i%2 == 0 {
			store = other
		}
		wg.Go(func() {
			if _, err := store.Count(ctx, "k", 2, now, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tally := func(key string, n int, at time.Time) storage.Tally {
		t.Helper()
		got, err := s.Count(ctx, key, n, at, time.Minute)
		check(t, err)
		return got
	}
	same(t, tally("k", 0, now.Add(59*time.Second)), storage.Tally{Current: 2 * racers})
	same(t, tally("k", 1, now.Add(time.Minute)), storage.Tally{Current: 1, Previous: 2 * racers})
	same(t, tally("k", 0, now.Add(2*time.Minute)), storage.Tally{Previous: 1})
	same(t, tally("back", 2, now), storage.Tally{Current: 2})
	same(t, tally("back", -1, now), storage.Tally{Current: 1})
	same(t, tally("back", -1, now.Add(time.Minute)), storage.Tally{Current: -1, Previous: 1})
	same(t, tally("other", 0, now), storage.Tally{})
}

func testSweep(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("u1", "alice")))
	check(t, s.CreateSession(ctx, session("u1.s1", "u1")))
	for i := range 5 {
		check(t, s.CreateGrant(ctx, grant(storage.GrantID(fmt.Sprint("u1.s1.code", i)))))
	}
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	check(t, s.Redeem(ctx, redemption(start)))
	_, err := s.Count(ctx, "k", 1, start, time.Minute)
	check(t, err)

	// However often it is called, and in parts: nothing goes before its time.
	for at := start; at.Before(start.Add(24 * time.Hour)); at = at.Add(6 * time.Hour) {
		for n := 3; n == 3; {
			n, err = s.Sweep(ctx, at, 3)
			check(t, err)
			if n > 3 {
				t.Fatalf("swept %d, no more than 3 were to go", n)
			}
		}
		if _, err := s.Standing(ctx, "u1.s1.g1", "spa"); err != nil {
			t.Errorf("a live grant was swept: %v", err)
		}
		if _, _, err := s.SessionUser(ctx, "u1.s1"); err != nil {
			t.Errorf("a live session was swept: %v", err)
		}
	}
}

// testCheck: there is nothing to say of a store that was used as it should be.
func testCheck(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	healthy := func(when string) {
		t.Helper()
		check(t, s.Check(ctx, func(problem string) { t.Errorf("%s: %s", when, problem) }))
	}
	healthy("empty")
	check(t, s.CreateClient(ctx, clients.Client{ID: "spa"}))
	check(t, s.CreateResourceServer(ctx, clients.ResourceServer{ID: "api"}))
	for i := range 5 {
		id := storage.UserID(fmt.Sprint("u", i))
		check(t, s.CreateUser(ctx, user(id, "name of "+string(id))))
		check(t, s.CreateSession(ctx, session(storage.SessionID(id)+".s", id)))
		g := grant(storage.GrantID(id) + ".s.g")
		check(t, s.CreateGrant(ctx, g))
		r := redemption(start)
		r.Grant = g.ID
		check(t, s.Redeem(ctx, r))
	}
	check(t, s.RevokeGrant(ctx, "u1.s.g", start, "by hand"))
	check(t, s.EndSession(ctx, "u2.s", start))
	u, err := s.User(ctx, "u3")
	check(t, err)
	u.Name = "renamed"
	check(t, s.UpdateUser(ctx, u))
	check(t, s.RemoveUser(ctx, "u4"))
	check(t, s.PutKeyRing(ctx, storage.KeyRing{Root: []byte{1}}))
	_, err = s.Count(ctx, "k", 1, start, time.Minute)
	check(t, err)
	check(t, s.Once(ctx, [32]byte{1}, start, start.Add(time.Minute)))
	check(t, s.AddLogouts(ctx, []storage.Logout{logout("spa", "u2.s", start), logout("spa", "u3.s", start)}))
	check(t, s.FinishLogout(ctx, "spa", "u3.s"))
	check(t, s.AppendEvents(ctx, []storage.Event{event(0)}, start))
	check(t, s.PutCase(ctx, fullCase("u1")))
	check(t, s.PutCase(ctx, fullCase("u2")))
	check(t, s.RemoveCase(ctx, "u2"))
	slow := rotation(1, start)
	slow.Grant, slow.OnlyUntil = "u3.s.g", start.Add(time.Minute)
	check(t, s.Rotate(ctx, slow))
	healthy("in use")
}

func testTwoHandles(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	check(t, s.CreateUser(ctx, user("u1", "alice")))
	u, err := other.User(ctx, "u1")
	check(t, err)
	u.DisplayName = "changed"
	check(t, other.UpdateUser(ctx, u))
	if u, err = s.User(ctx, "u1"); err != nil || u.DisplayName != "changed" {
		t.Errorf("the other handle's change is not seen: %+v, %v", u, err)
	}
}

func testCancelledContext(t *testing.T, s storage.Store, _ Opener) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.CreateUser(ctx, user("u1", "alice")); err == nil {
		t.Error("a write with a cancelled context succeeded")
	}
	if _, err := s.User(t.Context(), "u1"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a write that failed before it began left something: %v", err)
	}
}

func testClosed(t *testing.T, s storage.Store, _ Opener) {
	check(t, s.Ready(t.Context()))
	check(t, s.Close())
	want(t, s.Ready(t.Context()), storage.ErrUnavailable)
	want(t, s.CreateUser(t.Context(), user("u1", "alice")), storage.ErrUnavailable)
	_, err := s.User(t.Context(), "u1")
	want(t, err, storage.ErrUnavailable)
}

func user(id storage.UserID, name string) storage.User {
	return storage.User{ID: id, Name: name, Password: "$argon2id$", Epoch: 3, CreatedAt: start, UpdatedAt: start}
}

func session(id storage.SessionID, u storage.UserID) storage.Session {
	return storage.Session{
		ID: id, Secret: storage.Hash{1, 2, 3}, User: u, AuthTime: start, ACR: "acr", AMR: []string{"pwd"}, CreatedAt: start, LastSeen: start,
		IdleExpires: start.Add(time.Minute), Expires: start.Add(7 * 24 * time.Hour), Address: "192.0.2.1", UserAgent: "Browser/1.0", Epoch: 3,
	}
}

func grant(id storage.GrantID) storage.Grant {
	return storage.Grant{
		ID: id, Client: "spa", User: id.User(), Session: id.Session(), Scope: []string{"openid", "offline_access"}, Resource: []string{"https://api.example"},
		AuthTime: start, ACR: "acr", AMR: []string{"pwd"}, Salt: [16]byte{7, 8, 9}, RedirectURI: "https://a.example/cb", CodeChallenge: "challenge",
		Nonce: "nonce", CodeExpires: start.Add(time.Minute), Expires: start.Add(time.Minute), CreatedAt: start, Epoch: 1<<63 + 1,
	}
}

func names[R any](list []R, name func(R) string) []string {
	var all []string
	for _, r := range list {
		all = append(all, name(r))
	}
	return all
}

// walk lists everything, page by page.
func walk(t *testing.T, limit int, list func(storage.Page) ([]string, error)) []string {
	t.Helper()
	var all []string
	for p := (storage.Page{Limit: limit}); ; p.After = all[len(all)-1] {
		page, err := list(p)
		check(t, err)
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
	}
}
