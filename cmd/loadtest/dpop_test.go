package main

import (
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
)

func newKey(t *testing.T) *dpopKey {
	t.Helper()
	k, err := newDPoPKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func prove(t *testing.T, k *dpopKey, method, uri, accessToken string, now time.Time) string {
	t.Helper()
	proof, err := k.prove(method, uri, accessToken, now)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func TestProofsAreGoodForWhatTheyAreMade(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k := newKey(t)
	e := dpop.Expect{Method: "GET", URI: "https://api.example.com/", AccessToken: "a.b.c", Now: now}
	one, err := dpop.Check(prove(t, k, e.Method, e.URI, e.AccessToken, now), e)
	if err != nil {
		t.Fatal(err)
	}
	another, err := dpop.Check(prove(t, k, e.Method, e.URI, e.AccessToken, now), e)
	if err != nil {
		t.Fatal(err)
	}
	if one.JKT != another.JKT || one.Replay == another.Replay || !one.IssuedAt.Equal(now) {
		t.Errorf("two proofs by one key: %+v and %+v", one, another)
	}
	if _, err := dpop.Check(prove(t, k, e.Method, e.URI, "", now), e); err == nil {
		t.Error("a proof without an access token was accepted with one")
	}
}

func TestProofsMadeAheadAreUsedInTheirOrder(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &trial{target: target{server: endpoint{address: "127.0.0.1:8080"}, now: func() time.Time { return now }}}
	a, b, c := newKey(t), newKey(t), newKey(t)
	p, err := r.ahead([][]*dpopKey{{a, b}, {c}, nil}, func(worker int) int { return 4 - 2*worker })
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	next := func(worker int, k *dpopKey, late int) {
		t.Helper()
		text, err := p.next(worker, k)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dpop.Check(text, dpop.Expect{Method: "POST", URI: "http://127.0.0.1:8080/token", Now: now})
		if err != nil {
			t.Fatal(err)
		}
		want, err := dpop.Check(prove(t, k, "GET", "http://127.0.0.1:8080", "", now), dpop.Expect{Method: "GET", URI: "http://127.0.0.1:8080", Now: now})
		if err != nil {
			t.Fatal(err)
		}
		if got.JKT != want.JKT || seen[got.Replay] || p.late() != late {
			t.Errorf("key %s, %s expected; seen before: %t; %d late, %d expected", got.JKT, want.JKT, seen[got.Replay], p.late(), late)
		}
		seen[got.Replay] = true
	}
	next(0, a, 0)
	next(0, b, 0)
	next(1, c, 0)
	next(0, c, 1) // another's turn
	now = now.Add(freshness)
	next(0, b, 2) // too old by now
	next(0, a, 3) // none left
	next(2, a, 4)
}
