package storagetest

import (
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

func testRenewSession(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("u1", "alice")))
	x := session("u1.s1", "u1")
	want(t, s.RenewSession(ctx, x), storage.ErrNotFound)
	check(t, s.CreateSession(ctx, x))

	later := start.Add(time.Hour)
	renewed := x
	renewed.Secret = storage.Hash{9}
	renewed.AuthTime, renewed.ACR, renewed.AMR = later, "urn:other", []string{"pwd", "otp"}
	renewed.LastSeen, renewed.IdleExpires, renewed.Expires = later, later.Add(time.Hour), x.Expires.Add(2*time.Hour)
	renewed.Address, renewed.UserAgent = "2001:db8::9", "another"
	check(t, s.RenewSession(ctx, renewed))
	check(t, s.RenewSession(ctx, renewed)) // the answer was lost
	reopened := open()
	defer reopened.Close()
	got, _, err := reopened.SessionUser(ctx, x.ID)
	check(t, err)
	same(t, got, renewed)
	list, err := s.ListSessions(ctx, "u1", storage.Page{Limit: 10})
	check(t, err)
	same(t, list, []storage.Session{renewed})

	// Its new end is what counts.
	_, err = s.Sweep(ctx, x.Expires.Add(time.Hour), 100)
	check(t, err)
	_, _, err = s.SessionUser(ctx, x.ID)
	check(t, err)

	// A use that was seen meanwhile stays seen.
	check(t, s.TouchSession(ctx, x.ID, later.Add(time.Hour), later.Add(2*time.Hour)))
	check(t, s.RenewSession(ctx, renewed))
	got, _, err = s.SessionUser(ctx, x.ID)
	check(t, err)
	if !got.LastSeen.Equal(later.Add(time.Hour)) || !got.IdleExpires.Equal(later.Add(2*time.Hour)) {
		t.Errorf("renewing moved the last use back: %+v", got)
	}

	// What was ended stays so.
	check(t, s.EndSession(ctx, x.ID, later))
	before, _, err := s.SessionUser(ctx, x.ID)
	check(t, err)
	again := renewed
	again.Secret = storage.Hash{8}
	want(t, s.RenewSession(ctx, again), storage.ErrNotFound)
	got, _, err = s.SessionUser(ctx, x.ID)
	check(t, err)
	same(t, got, before)
	check(t, s.RemoveUser(ctx, "u1"))
	want(t, s.RenewSession(ctx, again), storage.ErrNotFound)
}
