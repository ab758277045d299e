package redis_test

import (
	"encoding/base64"
	"strconv"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// TestShortLives: what is kept for a while is kept as long as its own times say,
// and somewhat longer, whatever time it is here; and nothing stays for ever.
func TestShortLives(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	used := [32]byte{1}
	check(t, s.Once(t.Context(), used, start, start.Add(time.Minute)))
	check(t, s.AddLogouts(t.Context(), []storage.Logout{logout("u.s"), logout("u.s2"), logout("u.s3")}))
	long := logout("u.long")
	long.Expires = start.Add(48 * time.Hour)
	check(t, s.AddLogouts(t.Context(), []storage.Logout{long}))
	check(t, s.AddLogouts(t.Context(), []storage.Logout{logout("u.s4")})) // takes nothing of the other's life
	text := func(b [32]byte) string { return base64.RawURLEncoding.EncodeToString(b[:]) }
	for key, life := range map[string]time.Duration{
		"sg:x{" + text(used) + "}": time.Minute + 20*time.Second,
		"sg:{l}logouts":            49 * time.Hour,
		"sg:{l}due":                49 * time.Hour,
	} {
		left, err := strconv.ParseInt(do(t, server, "PTTL", key), 10, 64)
		check(t, err)
		if d := time.Duration(left) * time.Millisecond; d > life || d < life-10*time.Second {
			t.Errorf("%s lives for %s, %s expected", key, d, life)
		}
	}

	cases(t, s, server)

	// What was sent, and what nobody tries any more, leaves nothing.
	check(t, s.FinishLogout(t.Context(), "spa", "u.s"))
	size := func(want string) {
		t.Helper()
		if owed, due := do(t, server, "HLEN", "sg:{l}logouts"), do(t, server, "ZCARD", "sg:{l}due"); owed != want || due != want {
			t.Errorf("%s logouts are there, and %s by when they are due; %s expected", owed, due, want)
		}
	}
	size("4")
	_, err := s.ClaimLogouts(t.Context(), start.Add(24*time.Hour), start.Add(25*time.Hour), 10)
	check(t, err)
	size("1")
	check(t, s.FinishLogout(t.Context(), "spa", "u.long"))
	size("0")
}

// cases: a user leaves the order of cases when the case is gone for sure, and no
// sooner, whatever time it is here.
func cases(t *testing.T, s storage.Store, server *redistest.Server) {
	t.Helper()
	ordered := func(want string) {
		t.Helper()
		if order, until := do(t, server, "ZCARD", "sg:{k}cases"), do(t, server, "ZCARD", "sg:{k}until"); order != want || until != want {
			t.Errorf("%s users are in the order of cases, and %s by when they are gone; %s expected", order, until, want)
		}
	}
	for _, u := range []storage.UserID{"a", "b", "c"} {
		check(t, s.PutCase(t.Context(), aCase(u)))
	}
	ordered("3")
	// One who is refused takes nothing of what is there.
	until := do(t, server, "ZSCORE", "sg:{k}until", "a")
	short := aCase("a")
	short.Expires = start.Add(time.Second)
	want(t, s.PutCase(t.Context(), short), storage.ErrConflict)
	if now := do(t, server, "ZSCORE", "sg:{k}until", "a"); now != until {
		t.Errorf("the order of cases forgets at %s, %s expected", now, until)
	}
	check(t, s.RemoveCase(t.Context(), "a"))
	check(t, s.PutCase(t.Context(), aCase("d")))
	ordered("4") // another server might have put a new one just now
	list, err := s.ListCases(t.Context(), storage.Page{Limit: 10})
	check(t, err)
	if len(list) != 3 {
		t.Errorf("%d cases are listed, 3 expected", len(list))
	}
	do(t, server, "ZADD", "sg:{k}until", "1000", "a")
	check(t, s.PutCase(t.Context(), aCase("e")))
	ordered("4")
	check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
}
