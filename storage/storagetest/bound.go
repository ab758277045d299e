package storagetest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

// thumbprint is that of the nth key.
func thumbprint(n int) string {
	var b [32]byte
	b[0], b[31] = byte(n+1), 0xff
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// testBound: the key that a grant is bound to comes from its creation or its
// redemption, and stays through all that happens to it.
func testBound(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	is := func(when string, id storage.GrantID, want string) {
		t.Helper()
		st, err := other.Standing(ctx, id, "spa")
		check(t, err)
		list, err := other.ListGrants(ctx, "u1", storage.Page{Limit: 100})
		check(t, err)
		listed := "no such grant"
		for _, g := range list {
			if g.ID == id {
				listed = g.JKT
			}
		}
		if st.Grant.JKT != want || listed != want {
			t.Errorf("%s: the grant %s is bound to %q and listed with %q, %q expected", when, id, st.Grant.JKT, listed, want)
		}
	}
	for i, c := range []struct{ created, redeemed, want string }{
		{"", "", ""},
		{thumbprint(0), "", thumbprint(0)},
		{"", thumbprint(1), thumbprint(1)},
		{thumbprint(2), thumbprint(2), thumbprint(2)},
		{thumbprint(3), thumbprint(4), thumbprint(4)},
	} {
		g := grant(storage.GrantID(fmt.Sprint("u1.s1.g", i)))
		g.JKT = c.created
		check(t, s.CreateGrant(ctx, g))
		is("created", g.ID, c.created)
		r := redemption(start)
		r.Grant, r.JKT = g.ID, c.redeemed
		check(t, s.Redeem(ctx, r))
		is("redeemed", g.ID, c.want)
		rot := rotation(1, start)
		rot.Grant = g.ID
		check(t, s.Rotate(ctx, rot))
		is("rotated", g.ID, c.want)
		// A code that comes a second time changes no key.
		r.JKT = thumbprint(9)
		want(t, s.Redeem(ctx, r), storage.ErrReused)
		is("revoked", g.ID, c.want)
		st, err := s.Standing(ctx, g.ID, "spa")
		check(t, err)
		g.JKT, g.RedeemedAt, g.Generation, g.RotatedAt = c.want, start, 2, start
		g.IdleExpires, g.Expires, g.RevokedAt, g.RevokedFor = start.Add(time.Hour), start.Add(24*time.Hour), start, storage.ReasonCodeReuse
		same(t, st.Grant, g)
	}
	for name, at := range map[string]time.Time{"late": grant("").CodeExpires, "revoked": start} {
		g := grant(storage.GrantID("u1.s1." + name))
		check(t, s.CreateGrant(ctx, g))
		if name == "revoked" {
			check(t, s.RevokeGrant(ctx, g.ID, start, "by hand"))
		}
		r := redemption(at)
		r.Grant, r.JKT = g.ID, thumbprint(9)
		if err := s.Redeem(ctx, r); err == nil {
			t.Errorf("%s: it was redeemed", name)
		}
		is(name, g.ID, "")
	}
	// A grant that was used before, of another store.
	g := grant("u1.s1.moved")
	g.JKT, g.RedeemedAt, g.Generation, g.RevokedAt, g.RevokedFor = thumbprint(5), start, 7, start, "by hand"
	check(t, s.CreateGrant(ctx, g))
	st, err := other.Standing(ctx, g.ID, "spa")
	check(t, err)
	same(t, st.Grant, g)

	g = grant("u1.s1.odd")
	check(t, s.CreateGrant(ctx, g))
	for _, odd := range []string{
		"x", thumbprint(0)[:42], thumbprint(0) + "A", thumbprint(0) + "=", thumbprint(0)[:42] + "9", "+" + thumbprint(0)[1:], thumbprint(0)[:21] + "\n" + thumbprint(0)[21:],
		strings.Repeat("A", 43),
	} {
		bad := grant("u1.s1.bad")
		bad.JKT = odd
		if err := s.CreateGrant(ctx, bad); err == nil {
			t.Errorf("a grant was made that is bound to %q", odd)
		}
		r := redemption(start)
		r.Grant, r.JKT = g.ID, odd
		if err := s.Redeem(ctx, r); err == nil {
			t.Errorf("a code was redeemed by the key %q", odd)
		}
	}
	if _, err := s.Standing(ctx, "u1.s1.bad", "spa"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a grant that was refused: %v", err)
	}
	if st, err := s.Standing(ctx, g.ID, "spa"); err != nil || !st.Grant.RedeemedAt.IsZero() {
		t.Errorf("a refused key spent the code: %+v, %v", st.Grant, err)
	}
}

// testBoundRace: of many who redeem a code, each with a key of its own, one
// gets it, and the grant is bound to that one's key.
func testBoundRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	won := make(chan int, racers)
	got := race(func(i int) error {
		r := redemption(start)
		r.JKT = thumbprint(i)
		err := []storage.Store{s, other}[i%2].Redeem(ctx, r)
		if err == nil {
			won <- i
		}
		return err
	})
	if got[nil] != 1 || got[storage.ErrReused] != racers-1 {
		t.Fatalf("outcomes %v: one winner and %d reuses expected", got, racers-1)
	}
	st, err := s.Standing(ctx, "u1.s1.g1", "spa")
	check(t, err)
	if i := <-won; st.Grant.JKT != thumbprint(i) {
		t.Errorf("the grant is bound to %q, and %q redeemed its code", st.Grant.JKT, thumbprint(i))
	}
}

// testKeep: a refresh token that stays is refused like one that rotates.
func testKeep(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	keep := func(from uint64, at time.Time) error {
		r := rotation(from, at)
		r.Keep = true
		return s.Rotate(ctx, r)
	}
	read := func() storage.Grant {
		t.Helper()
		st, err := s.Standing(ctx, "u1.s1.g1", "spa")
		check(t, err)
		return st.Grant
	}
	want(t, keep(1, start), storage.ErrNotFound)
	check(t, s.CreateGrant(ctx, grant("u1.s1.g1")))
	want(t, keep(0, start), storage.ErrNotFound) // the code was not redeemed
	check(t, s.Redeem(ctx, redemption(start)))
	before := read()

	// However often it is used, it stays; it never goes idle earlier.
	for i := range 5 {
		check(t, keep(1, start.Add(time.Duration(i)*30*time.Minute)))
	}
	check(t, keep(1, start))
	before.IdleExpires = start.Add(3 * time.Hour)
	same(t, read(), before)
	want(t, keep(2, start), storage.ErrNotFound)
	same(t, read(), before)

	// One that rotated before its client became a confidential one.
	at := start.Add(time.Minute)
	check(t, s.Rotate(ctx, rotation(1, at)))
	check(t, keep(1, at.Add(10*time.Second)))
	check(t, keep(2, at))
	if g := read(); g.Generation != 2 || !g.RotatedAt.Equal(at) || !g.RevokedAt.IsZero() {
		t.Errorf("after a rotation before: %+v", g)
	}
	want(t, keep(2, start.Add(3*time.Hour)), storage.ErrExpired) // idle
	want(t, keep(1, at.Add(11*time.Second)), storage.ErrReused)
	if g := read(); g.RevokedFor != storage.ReasonRefreshReuse || !g.RevokedAt.Equal(at.Add(11*time.Second)) {
		t.Errorf("reuse left %+v", g)
	}
	want(t, keep(2, at), storage.ErrRevoked)

	g := grant("u1.s1.g2")
	check(t, s.CreateGrant(ctx, g))
	check(t, s.Redeem(ctx, storage.Redemption{Grant: g.ID, At: start, IdleExpires: start.Add(9 * time.Hour), Expires: start.Add(time.Hour)}))
	r := rotation(1, start.Add(time.Hour))
	r.Grant, r.Keep = g.ID, true
	want(t, s.Rotate(ctx, r), storage.ErrExpired)

	other := open()
	defer other.Close()
	g = grant("u1.s1.g3")
	check(t, s.CreateGrant(ctx, g))
	red := redemption(start)
	red.Grant = g.ID
	check(t, s.Redeem(ctx, red))
	if got := race(func(i int) error {
		r := rotation(1, start)
		r.Grant, r.Keep = g.ID, true
		return []storage.Store{s, other}[i%2].Rotate(ctx, r)
	}); got[nil] != racers {
		t.Errorf("outcomes %v: all nil expected", got)
	}
}
