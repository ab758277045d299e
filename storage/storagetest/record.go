package storagetest

import (
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// testMadeAgain: a record that was removed and made again under its identifier
// is another one. Whoever read the first must not overwrite the second, nor
// take what they remember of the first for the second.
func testMadeAgain(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	c := clients.Client{ID: "spa", Name: "the first"}
	rs := clients.ResourceServer{ID: "api", Name: "the first"}
	u := user("u1", "alice")
	var versions [3]map[uint64]bool
	for i := range versions {
		versions[i] = map[uint64]bool{}
	}
	note := func(i int, what string, version uint64) {
		t.Helper()
		if version == 0 || versions[i][version] {
			t.Errorf("%s came back with version %d, one of a record that is gone, or none", what, version)
		}
		versions[i][version] = true
	}
	for range 3 {
		check(t, s.CreateClient(ctx, c))
		check(t, s.CreateResourceServer(ctx, rs))
		check(t, s.CreateUser(ctx, u))
		for range 2 {
			gotClient, err := s.Client(ctx, c.ID)
			check(t, err)
			note(0, "the client", gotClient.Version)
			check(t, s.UpdateClient(ctx, gotClient))
			gotServer, err := s.ResourceServer(ctx, rs.ID)
			check(t, err)
			note(1, "the resource server", gotServer.Version)
			check(t, s.UpdateResourceServer(ctx, gotServer))
			gotUser, err := s.User(ctx, u.ID)
			check(t, err)
			note(2, "the user", gotUser.Version)
			check(t, s.UpdateUser(ctx, gotUser))
		}
		stale, err := s.User(ctx, u.ID)
		check(t, err)
		check(t, s.RemoveClient(ctx, c.ID))
		check(t, s.RemoveResourceServer(ctx, rs.ID))
		check(t, s.RemoveUser(ctx, u.ID))
		check(t, s.CreateUser(ctx, u))
		want(t, s.UpdateUser(ctx, stale), storage.ErrConflict)
		check(t, s.RemoveUser(ctx, u.ID))
	}
}

// testOddRecords: identifiers are bytes that a store compares and never reads
// anything into, and a record may be large.
func testOddRecords(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	odd := []string{
		" ", "a", "A", "a ", "a:b", "a/b", "a{b}", "a*", "a?", "%61", "'; DROP TABLE grants; --", "$1", "?1", "null", "0", "1e9",
		"a\x00b", "a\nb", "é", "e\u0301", "\u202e", "🔑", strings.Repeat("long", 1000),
	}
	large := strings.Repeat("x", 300_000)
	for i, id := range odd {
		u, x, g := user(storage.UserID(id), id), session(storage.SessionID(id+".s"), storage.UserID(id)), grant(storage.GrantID(id+".s.g"))
		u.DisplayName, x.UserAgent, g.Nonce = large[:i*5000], large[:i*5000], large[:i*5000]
		g.Client = clients.ID(id)
		check(t, s.CreateUser(ctx, u))
		check(t, s.CreateSession(ctx, x))
		check(t, s.CreateGrant(ctx, g))
		check(t, s.CreateClient(ctx, clients.Client{ID: clients.ID(id), Name: id, CreatedAt: start}))
	}
	reopened := open()
	defer reopened.Close()
	for i, id := range odd {
		st, err := reopened.Standing(ctx, storage.GrantID(id+".s.g"), clients.ID(id))
		if err != nil {
			t.Errorf("grant %.30q: %v", id, err)
			continue
		}
		if st.Grant.ID != storage.GrantID(id+".s.g") || st.Session.ID != storage.SessionID(id+".s") || st.User.Name != id || st.ClientVersion == 0 {
			t.Errorf("grant %.30q came back with grant %.30q, session %.30q, user %.30q", id, st.Grant.ID, st.Session.ID, st.User.Name)
		}
		if len(st.Grant.Nonce) != i*5000 || len(st.Session.UserAgent) != i*5000 || len(st.User.DisplayName) != i*5000 {
			t.Errorf("grant %.30q: part of a large record is missing", id)
		}
		if u, err := reopened.UserByName(ctx, id); err != nil || u.ID != storage.UserID(id) {
			t.Errorf("user by name %.30q: %.30q, %v", id, u.ID, err)
		}
		if n, err := s.Count(ctx, id, 1, start, time.Minute); err != nil || n.Current != 1 {
			t.Errorf("counter %.30q: %+v, %v", id, n, err)
		}
	}
	// All listings are in byte order, and a page begins after any of them.
	all := walk(t, 2, func(p storage.Page) ([]string, error) {
		list, err := reopened.ListUsers(ctx, p)
		return names(list, func(u storage.User) string { return u.Name }), err
	})
	if len(all) != len(odd) {
		t.Errorf("%d users were listed, %d expected", len(all), len(odd))
	}
	for i := 1; i < len(all); i++ {
		if all[i-1] >= all[i] {
			t.Errorf("%.30q is listed before %.30q", all[i-1], all[i])
		}
	}
}
