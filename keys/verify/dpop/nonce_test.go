package dpop_test

import (
	"errors"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
)

func TestNonces(t *testing.T) {
	n := dpop.NewNonces([32]byte{1})
	replica := dpop.NewNonces([32]byte{1})
	stranger := dpop.NewNonces([32]byte{2})
	start := now.Truncate(2 * time.Minute)
	nonce := n.Current(start)
	if nonce != n.Current(start.Add(2*time.Minute-1)) || nonce == n.Current(start.Add(2*time.Minute)) || nonce != replica.Current(start) {
		t.Error("the nonce does not change with the window, or not for all replicas")
	}
	for name, c := range map[string]struct {
		nonce string
		at    time.Time
		want  bool
	}{
		"at once":                  {nonce, start, true},
		"end of the next window":   {nonce, start.Add(4*time.Minute - 1), true},
		"after the next window":    {nonce, start.Add(4 * time.Minute), false},
		"a server that is behind":  {nonce, start.Add(-2 * time.Minute), true},
		"one that is further back": {nonce, start.Add(-2*time.Minute - 1), false},
		"empty":                    {"", start, false},
		"cut":                      {nonce[:31], start, false},
		"more":                     {nonce + "A", start, false},
		"changed":                  {spare(nonce), start, false},
		"changed time":             {spare(nonce[:11]) + nonce[11:], start, false},
		"another key's":            {stranger.Current(start), start, false},
		"no base64url":             {"!" + nonce[1:], start, false},
	} {
		if got := replica.Valid(c.nonce, c.at); got != c.want {
			t.Errorf("%s: %v, %v expected", name, got, c.want)
		}
	}
}

func TestNonceIsDemanded(t *testing.T) {
	k := newKey(t, "ES256")
	e := expect()
	passes(t, "not demanded", k.proof(t, nil, nil), e)
	passes(t, "not demanded, another server's", k.proof(t, nil, map[string]any{"nonce": "x"}), e)
	e.Nonces = dpop.NewNonces([32]byte{1})
	good := map[string]any{"nonce": e.Nonces.Current(now)}
	if p := passes(t, "good", k.proof(t, nil, good), e); p != nil && p.Nonce != good["nonce"] {
		t.Errorf("nonce %q", p.Nonce)
	}
	for name, nonce := range map[string]any{"missing": nil, "empty": "", "made up": "x", "old": e.Nonces.Current(now.Add(-time.Hour))} {
		if p, err := dpop.Check(k.proof(t, nil, map[string]any{"nonce": nonce}), e); !errors.Is(err, dpop.ErrNonce) || errors.Is(err, dpop.ErrProof) || p != nil {
			t.Errorf("%s: got %v, ErrNonce expected", name, err)
		}
	}
	// A proof that is bad anyway is not worth another attempt.
	refused(t, "no nonce, and the method is wrong", k.proof(t, nil, map[string]any{"htm": "POST"}), e)
	refused(t, "no nonce, and another's key", k.proof(t, map[string]any{"jwk": newKey(t, "ES256").jwk}, nil), e)
}
