package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

const notes = audience + "/notes"

// client is a client with a key and a token that is bound to it.
type client struct {
	*verifytest.ProofKey
	token string
}

func (w *world) client(tb testing.TB) *client {
	tb.Helper()
	c := &client{ProofKey: verifytest.NewKey(tb)}
	c.SetClock(w.clock.Now)
	c.token = w.BoundToken(c.ProofKey, nil)
	return c
}

// proof returns a good proof for GET /notes with the changes.
func (c *client) proof(changes map[string]any) string {
	return c.Proof("GET", notes, c.token, changes)
}

// request returns GET /notes with the client's token and a proof.
func (c *client) request(proof string) *http.Request {
	r := httptest.NewRequest("GET", "/notes", nil)
	r.Host = "internal.example"
	r.Header.Set("Authorization", "DPoP "+c.token)
	r.Header.Set("DPoP", proof)
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// expect calls and holds the answer to a status and, in the one challenge if
// there is one, an error.
func (w *world) expect(t *testing.T, name string, r *http.Request, status int, code string) {
	t.Helper()
	rec := serve(w.api, r)
	challenges := rec.Header()["Www-Authenticate"]
	if rec.Code != status || status == 200 && len(challenges) != 0 {
		t.Errorf("%s: %d %q, %d expected", name, rec.Code, challenges, status)
		return
	}
	if code != "" && (len(challenges) != 1 || !strings.HasPrefix(challenges[0], `DPoP algs="ES256 PS256 EdDSA Ed25519", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", error="`+code+`"`)) {
		t.Errorf("%s: challenges %q, one with %s expected", name, challenges, code)
	}
}

func TestC19BoundTokenNeedsItsProof(t *testing.T) {
	w := newWorld(t)
	c, thief := w.client(t), w.client(t)
	good := func(name string) {
		t.Helper()
		w.expect(t, name, c.request(c.proof(nil)), 200, "")
	}
	good("new token")
	good("token that was seen")

	// The token without its proof, each way that a thief could try.
	rec := w.call(c.token)
	if challenges := rec.Header()["Www-Authenticate"]; rec.Code != 401 || len(challenges) != 2 || !strings.Contains(challenges[0], `Bearer `) || !strings.Contains(challenges[0], `error="invalid_token"`) || !strings.HasPrefix(challenges[1], "DPoP algs=") {
		t.Errorf("as Bearer: %d %q", rec.Code, challenges)
	}
	r := c.request(c.proof(nil))
	r.Header.Set("Authorization", "Bearer "+c.token)
	if rec := serve(w.api, r); rec.Code != 401 {
		t.Errorf("as Bearer with the proof: %d", rec.Code)
	}
	if _, err := w.v.Verify(t.Context(), c.token); err == nil {
		t.Error("Verify accepts it without a request")
	}
	r = c.request("")
	r.Header.Del("DPoP")
	w.expect(t, "no proof", r, 401, "invalid_dpop_proof")
	w.expect(t, "empty proof", c.request(""), 401, "invalid_dpop_proof")
	w.expect(t, "another's key", c.request(thief.Proof("GET", notes, c.token, nil)), 401, "invalid_token")
	r = c.request(c.proof(nil))
	r.Header.Add("DPoP", c.proof(nil))
	w.expect(t, "two proofs", r, 401, "invalid_dpop_proof")
	w.expect(t, "two in one header", c.request(c.proof(nil)+", "+c.proof(nil)), 401, "invalid_dpop_proof")
	r = c.request(c.proof(nil))
	r.Header.Add("Authorization", "Bearer "+w.Token(nil))
	if rec := serve(w.api, r); rec.Code != 400 {
		t.Errorf("two Authorization headers: %d", rec.Code)
	}

	// The other way round: a proof makes nothing of a token that isn't bound.
	plain := &client{ProofKey: c.ProofKey, token: w.Token(nil)}
	w.passes(t, "unbound as Bearer", plain.token)
	w.expect(t, "unbound as DPoP", plain.request(plain.proof(nil)), 401, "invalid_token")
	for name, cnf := range map[string]any{
		"cnf beside the jkt":    map[string]any{"jkt": c.JKT, "x5t#S256": c.JKT},
		"cnf by certificate":    map[string]any{"x5t#S256": c.JKT},
		"cnf by key":            map[string]any{"jwk": c.JWK},
		"empty cnf":             map[string]any{},
		"cnf is a text":         c.JKT,
		"cnf is null":           json.RawMessage("null"),
		"jkt is empty":          map[string]any{"jkt": ""},
		"jkt is a number":       map[string]any{"jkt": 1},
		"jkt is too short":      map[string]any{"jkt": c.JKT[:42]},
		"jkt twice, other case": map[string]any{"jkt": c.JKT, "JKT": c.JKT},
	} {
		odd := &client{ProofKey: c.ProofKey, token: w.Token(map[string]any{"cnf": cnf})}
		w.expect(t, name, odd.request(odd.proof(nil)), 401, "invalid_token")
		w.refused(t, name, odd.token)
	}
	w.clock.advance(6 * time.Minute)
	w.expect(t, "token that expired", c.request(c.proof(nil)), 401, "invalid_token")
}

func TestC19ProofIsForThisRequest(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	w.expect(t, "good", c.request(c.proof(nil)), 200, "")
	now := w.clock.Now().Unix()
	for name, changes := range map[string]map[string]any{
		"wrong htm":               {"htm": "POST"},
		"wrong path":              {"htu": audience + "/other"},
		"path below":              {"htu": notes + "/1"},
		"wrong scheme":            {"htu": "http://api.example.com/notes"},
		"wrong host":              {"htu": "https://evil.example/notes"},
		"host that begins alike":  {"htu": "https://api.example.com.evil.example/notes"},
		"the host of the request": {"htu": "https://internal.example/notes"},
		"wrong ath":               {"ath": w.client(t).JKT},
		"no ath":                  {"ath": nil},
		"stale":                   {"iat": now - 71},
		"future":                  {"iat": now + 11},
		"no iat":                  {"iat": nil},
		"no jti":                  {"jti": nil},
		"no htm":                  {"htm": nil},
		"no htu":                  {"htu": nil},
	} {
		w.expect(t, name, c.request(c.proof(changes)), 401, "invalid_dpop_proof")
	}
	claims := func() map[string]any {
		m := map[string]any{}
		payload, err := decodePart(c.proof(nil), 1)
		if err != nil || json.Unmarshal(payload, &m) != nil {
			t.Fatal("the proof can't be read")
		}
		return m
	}
	w.expect(t, "good, signed as the bad ones are", c.request(c.SignProof(nil, claims())), 200, "")
	private := maps.Clone(c.JWK)
	private["d"] = "AAAA"
	for name, header := range map[string]map[string]any{
		"private key in jwk": {"jwk": private},
		"symmetric alg":      {"alg": "HS256"},
		"symmetric key":      {"alg": "HS256", "jwk": map[string]any{"kty": "oct", "k": "AAAA"}},
		"alg none":           {"alg": "none"},
		"RS256":              {"alg": "RS256"},
		"typ of a token":     {"typ": "at+jwt"},
		"no typ":             {"typ": nil},
		"another's jwk":      {"jwk": w.client(t).JWK},
		"jku":                {"jku": "https://evil.example/jwks"},
		"crit":               {"crit": []string{"iat"}},
	} {
		w.expect(t, name, c.request(c.SignProof(header, claims())), 401, "invalid_dpop_proof")
	}
	w.expect(t, "a token as the proof", c.request(c.token), 401, "invalid_dpop_proof")
	w.expect(t, "a proof as the token", (&client{c.ProofKey, c.proof(nil)}).request(c.proof(nil)), 401, "invalid_token")
	for name, htu := range map[string]string{
		"with a query": notes + "?a=b", "in another case": "HTTPS://API.EXAMPLE.COM/notes", "with the port": "https://api.example.com:443/notes", "with escapes": audience + "/%6eotes",
	} {
		w.expect(t, "htu "+name, c.request(c.proof(map[string]any{"htu": htu})), 200, "")
	}
}

func TestC19ProofIsUsedOnce(t *testing.T) {
	shared := &replays{used: map[[32]byte]bool{}}
	w := newWorld(t, func(c *verify.Config) { c.Replays = shared })
	replica := w.verifier(t, func(c *verify.Config) { c.Replays = shared }).Require("openid")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	alone := newWorld(t)
	c := w.client(t)
	proof := c.proof(nil)
	w.expect(t, "first", c.request(proof), 200, "")
	w.expect(t, "replayed", c.request(proof), 401, "invalid_dpop_proof")
	if rec := serve(replica, c.request(proof)); rec.Code != 401 {
		t.Errorf("replayed at another replica: %d", rec.Code)
	}
	if rec := serve(replica, c.request(c.proof(nil))); rec.Code != 200 {
		t.Errorf("a new one at the other replica: %d", rec.Code)
	}
	w.expect(t, "used jti in a new proof", c.request(c.proof(map[string]any{"jti": "once"})), 200, "")
	w.expect(t, "used jti in a new proof", c.request(c.proof(map[string]any{"jti": "once"})), 401, "invalid_dpop_proof")

	// The memory of one process does it for that process, until the proof is
	// too old.
	own := alone.client(t)
	proof = own.proof(nil)
	alone.expect(t, "first, in memory", own.request(proof), 200, "")
	for range 90 {
		alone.expect(t, "replayed, in memory", own.request(proof), 401, "invalid_dpop_proof")
		alone.clock.advance(time.Second)
	}

	// Of many at the same moment one passes.
	own = alone.client(t)
	proof = own.proof(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 20 {
		wg.Go(func() {
			if serve(alone.api, own.request(proof)).Code == 200 {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed != 1 {
		t.Errorf("%d of 20 replays at once passed, 1 expected", passed)
	}
}

// replays is what several replicas share.
type replays struct {
	mu   sync.Mutex
	used map[[32]byte]bool
	down error
}

func (s *replays) Once(_ context.Context, key [32]byte, _ time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil || s.used[key] {
		return false, s.down
	}
	s.used[key] = true
	return true, nil
}

func TestC19RefusedRequestUsesUpNothing(t *testing.T) {
	shared := &replays{used: map[[32]byte]bool{}}
	w := newWorld(t, func(c *verify.Config) { c.Replays = shared })
	c := w.client(t)
	proof := c.proof(nil)
	if rec := serve(w.v.Require("admin")(w.api), c.request(proof)); rec.Code != 403 || !strings.Contains(rec.Header().Get("WWW-Authenticate"), `DPoP algs="ES256 PS256 EdDSA Ed25519", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", error="insufficient_scope"`) {
		t.Errorf("scope missing: %d %q", rec.Code, rec.Header().Get("WWW-Authenticate"))
	}
	r := c.request(proof)
	r.Method = "POST"
	w.expect(t, "wrong method", r, 401, "invalid_dpop_proof")
	shared.down = errors.New("down")
	if rec := serve(w.api, c.request(proof)); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("the replay memory is down: %d, 503 with Retry-After expected", rec.Code)
	}
	shared.down = nil
	if n := len(shared.used); n != 0 {
		t.Errorf("%d proofs were used up", n)
	}
	w.expect(t, "the same proof, at last", c.request(proof), 200, "")
}

func TestC19NonceIsDemandedAndTold(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	w := newWorld(t, func(c *verify.Config) { c.DPoPNonceKey = key })
	c := w.client(t)
	proof := c.proof(nil)
	rec := serve(w.api, c.request(proof))
	nonce := rec.Header().Get("DPoP-Nonce")
	if rec.Code != 401 || nonce == "" || !strings.Contains(rec.Header().Get("WWW-Authenticate"), `error="use_dpop_nonce"`) || rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("without a nonce: %d %v", rec.Code, rec.Header())
	}
	w.expect(t, "without a nonce", c.request(proof), 401, "use_dpop_nonce")
	with := func(nonce string) *http.Request { return c.request(c.proof(map[string]any{"nonce": nonce})) }
	w.expect(t, "made up", with("x"), 401, "use_dpop_nonce")
	if rec := serve(w.api, with(nonce)); rec.Code != 200 || rec.Header().Get("DPoP-Nonce") != "" {
		t.Errorf("with the nonce: %d, a new nonce %q", rec.Code, rec.Header().Get("DPoP-Nonce"))
	}
	w.clock.advance(2 * time.Minute)
	rec = serve(w.api, with(nonce))
	next := rec.Header().Get("DPoP-Nonce")
	if rec.Code != 200 || next == "" || next == nonce || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("with the one before: %d %v, 200 and the next expected", rec.Code, rec.Header())
	}
	w.clock.advance(2 * time.Minute)
	w.expect(t, "with an old one", with(nonce), 401, "use_dpop_nonce")
	w.expect(t, "with the next", with(next), 200, "")
	w.expect(t, "wrong besides", c.request(c.proof(map[string]any{"htm": "POST"})), 401, "invalid_dpop_proof")
	if rec := serve(w.api, httptest.NewRequest("GET", "/notes", nil)); rec.Code != 401 || rec.Header().Get("DPoP-Nonce") == "" {
		t.Errorf("without a token: %d %v, a nonce for the first attempt expected", rec.Code, rec.Header())
	}
	stranger := newWorld(t, func(c *verify.Config) { c.DPoPNonceKey = make([]byte, 32) })
	foreign := serve(stranger.api, httptest.NewRequest("GET", "/notes", nil)).Header().Get("DPoP-Nonce")
	w.expect(t, "another API's", with(foreign), 401, "use_dpop_nonce")
	// Bearer needs none.
	c.token = w.Token(nil)
	w.passes(t, "Bearer", c.token)
}

// TestRequireInsideOfRequire has one request pass two checks with its one
// proof, and no other request with it.
func TestRequireInsideOfRequire(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	proof := c.proof(nil)
	if rec := serve(w.v.Require()(w.v.Require("admin")(w.api)), c.request(proof)); rec.Code != 403 {
		t.Errorf("without the inner scope: %d", rec.Code)
	}
	w.expect(t, "the proof of that request", c.request(proof), 401, "invalid_dpop_proof")
	if rec := serve(w.v.Require()(w.api), c.request(c.proof(nil))); rec.Code != 200 || rec.Body.String() != "alice" {
		t.Errorf("both scopes: %d %s", rec.Code, rec.Body)
	}
	for name, change := range map[string]func(*http.Request){
		"another token":     func(r *http.Request) { r.Header.Set("Authorization", "DPoP "+w.client(t).token) },
		"another proof":     func(r *http.Request) { r.Header.Set("DPoP", "x") },
		"a context's token": func(r *http.Request) { *r = *r.WithContext(verify.NewContext(r.Context(), &verify.Token{})) },
	} {
		swap := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			change(r)
			w.api.ServeHTTP(rw, r)
		})
		if rec := serve(w.v.Require()(swap), c.request(c.proof(nil))); rec.Code != 401 {
			t.Errorf("%s further inside: %d", name, rec.Code)
		}
	}
	// Another API's check is none of this one's.
	other := w.verifier(t, func(c *verify.Config) { c.Audience = "other" })
	if rec := serve(w.v.Require()(other.Require()(w.api)), c.request(c.proof(nil))); rec.Code != 401 {
		t.Errorf("another API's Require inside: %d", rec.Code)
	}
}

func TestProofTimesAreAsConfigured(t *testing.T) {
	w := newWorld(t, func(c *verify.Config) { c.DPoPLifetime = 5 * time.Second; c.Leeway = -1 })
	c := w.client(t)
	at := func(seconds int64) *http.Request {
		return c.request(c.proof(map[string]any{"iat": w.clock.Now().Unix() + seconds}))
	}
	w.expect(t, "now", at(0), 200, "")
	w.expect(t, "as old as can be", at(-5), 200, "")
	w.expect(t, "older", at(-6), 401, "invalid_dpop_proof")
	w.expect(t, "of the future", at(1), 401, "invalid_dpop_proof")
}

// TestC21StolenTokenIsWorthNothing has a thief with all that a page's injected
// script can send away: the token and proofs that were used. What it can't send
// away is the key.
func TestC21StolenTokenIsWorthNothing(t *testing.T) {
	w := newWorld(t, func(c *verify.Config) { c.RequireDPoP = true })
	victim, thief := w.client(t), w.client(t)
	recorded := victim.proof(nil)
	w.expect(t, "the victim", victim.request(recorded), 200, "")
	w.expect(t, "the recorded request", victim.request(recorded), 401, "invalid_dpop_proof")
	w.expect(t, "a proof by the thief's key", victim.request(thief.Proof("GET", notes, victim.token, nil)), 401, "invalid_token")
	w.expect(t, "the recorded proof with the thief's token", thief.request(recorded), 401, "invalid_dpop_proof")
	forged := victim.SignProof(map[string]any{"jwk": thief.JWK}, map[string]any{})
	w.expect(t, "the thief's key in the victim's proof", victim.request(forged), 401, "invalid_dpop_proof")
	r := victim.request("")
	r.Header.Del("DPoP")
	r.Header.Set("Authorization", "Bearer "+victim.token)
	w.expect(t, "as Bearer", r, 401, "invalid_token")
	w.expect(t, "the victim goes on", victim.request(victim.proof(nil)), 200, "")
}

// FuzzRequest holds the two headers that an API takes to what was signed.
func FuzzRequest(f *testing.F) {
	w := newWorld(f)
	c := w.client(f)
	proof := c.proof(nil)
	f.Add("DPoP "+c.token, proof)
	f.Add("Bearer "+w.Token(nil), "")
	f.Add("dpop "+c.token, proof+","+proof)
	f.Fuzz(func(t *testing.T, authorization, dpop string) {
		r := httptest.NewRequest("GET", "/notes", nil)
		r.Header["Authorization"] = []string{authorization}
		r.Header["Dpop"] = []string{dpop}
		token, err := w.v.VerifyRequest(r)
		switch {
		case err == nil && token.JKT != "" && dpop != proof:
			t.Errorf("%q with %q passed", authorization, dpop)
		case err != nil && serve(w.api, r).Code < 400:
			t.Errorf("%q with %q passed after %v", authorization, dpop, err)
		}
	})
}
