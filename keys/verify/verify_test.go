package verify_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

const audience = "https://api.example.com"

// clock is a clock that stands still.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an issuer, and an API that trusts it.
type world struct {
	*verifytest.Issuer
	clock *clock
	v     *verify.Verifier
	api   http.Handler
}

func newWorld(tb testing.TB, options ...func(*verify.Config)) *world {
	tb.Helper()
	w := &world{Issuer: verifytest.New(tb), clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}}
	w.SetClock(w.clock.Now)
	w.v = w.verifier(tb, options...)
	w.api = w.v.Require("openid")(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Write([]byte(verify.FromContext(r.Context()).Subject))
	}))
	return w
}

func (w *world) verifier(tb testing.TB, options ...func(*verify.Config)) *verify.Verifier {
	tb.Helper()
	c := verify.Config{Issuer: w.URL, Audience: audience, Development: true, Now: w.clock.Now}
	for _, option := range options {
		option(&c)
	}
	v, err := verify.New(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// call calls the API with a token.
func (w *world) call(token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	return rec
}

func (w *world) passes(t *testing.T, name, token string) {
	t.Helper()
	for range 2 { // new, and seen before
		if rec := w.call(token); rec.Code != 200 || rec.Body.String() != "alice" {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

func (w *world) refused(t *testing.T, name, token string) {
	t.Helper()
	for range 2 {
		rec := w.call(token)
		if rec.Code != 401 || !strings.Contains(rec.Header().Get("WWW-Authenticate"), `Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", error="invalid_token"`) {
			t.Errorf("%s: %d %q", name, rec.Code, rec.Header().Get("WWW-Authenticate"))
		}
		if len(token) > 20 && strings.Contains(rec.Body.String()+rec.Header().Get("WWW-Authenticate"), token[:20]) {
			t.Errorf("%s: the answer repeats the token", name)
		}
	}
}

func raw(parts ...string) string {
	for i, p := range parts {
		parts[i] = base64.RawURLEncoding.EncodeToString([]byte(p))
	}
	return strings.Join(parts, ".")
}

func TestC16ForgedAndForeignTokens(t *testing.T) {
	w := newWorld(t)
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA} {
		k := w.AddKey("extra-"+string(alg), alg)
		w.clock.advance(11 * time.Second) // an unknown key may be asked for again
		w.passes(t, string(alg), w.Sign(k, map[string]any{"typ": "at+jwt"}, w.Claims(nil)))
	}
	w.passes(t, "full media type", w.Sign(w.Key(), map[string]any{"typ": "application/AT+JWT"}, w.Claims(nil)))
	w.passes(t, "aud list with us", w.Token(map[string]any{"aud": []string{"https://other.example", audience}}))

	good, expires := w.Token(nil), w.clock.Now().Add(5*time.Minute)
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	claims, err := json.Marshal(w.Claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]any{"typ": "at+jwt"}
	with := func(name string, value any) map[string]any { return map[string]any{"typ": "at+jwt", name: value} }
	stranger := verifytest.New(t)

	w.refused(t, "alg none", raw(`{"alg":"none","typ":"at+jwt","kid":"key-1"}`, string(claims))+".")
	w.refused(t, "HS256 with the public key", hs256(t, w))
	w.refused(t, "another issuer's key under our kid", stranger.Sign(stranger.Key(), at, w.Claims(nil)))
	w.refused(t, "unknown kid", w.Sign(verifytest.Key{ID: "other", Algorithm: jose.ES256, Private: stranger.Key().Private}, at, w.Claims(nil)))
	w.refused(t, "no kid", w.Sign(verifytest.Key{Algorithm: jose.ES256, Private: w.Key().Private}, at, w.Claims(nil)))
	w.refused(t, "RS256 key used for PS256", psWithRS(t, w))
	jwk, _ := json.Marshal(jose.JSONWebKey{Key: stranger.Key().Private.Public(), KeyID: "key-1"})
	w.refused(t, "embedded jwk", stranger.Sign(stranger.Key(), with("jwk", json.RawMessage(jwk)), w.Claims(nil)))
	w.refused(t, "embedded jwk beside a good signature", w.Sign(w.Key(), with("jwk", json.RawMessage(jwk)), w.Claims(nil)))
	w.refused(t, "jku", w.Sign(w.Key(), with("jku", stranger.URL+"/jwks"), w.Claims(nil)))
	w.refused(t, "x5u", w.Sign(w.Key(), with("x5u", stranger.URL), w.Claims(nil)))
	w.refused(t, "crit", w.Sign(w.Key(), map[string]any{"typ": "at+jwt", "crit": []string{"exp"}, "exp": 1}, w.Claims(nil)))
	for _, typ := range []any{"JWT", "logout+jwt", "dpop+jwt", "secevent+jwt", "at+jwt ", "", nil} {
		header := map[string]any{}
		if typ != nil {
			header["typ"] = typ
		}
		w.refused(t, "wrong typ", w.Sign(w.Key(), header, w.Claims(nil)))
	}
	for name, changes := range map[string]map[string]any{
		"wrong iss":             {"iss": "https://evil.example"},
		"iss with a slash":      {"iss": w.URL + "/"},
		"no iss":                {"iss": nil},
		"wrong aud":             {"aud": "https://other.example"},
		"aud with a slash":      {"aud": audience + "/"},
		"aud list without us":   {"aud": []string{"https://a.example", "https://b.example"}},
		"empty aud list":        {"aud": []string{}},
		"no aud":                {"aud": nil},
		"aud is the client":     {"aud": "spa"},
		"expired":               {"exp": w.clock.Now().Unix() - 10},
		"no exp":                {"exp": nil},
		"exp is text":           {"exp": "tomorrow"},
		"exp far away":          {"exp": 1e300},
		"negative exp":          {"exp": -1},
		"issued in the future":  {"iat": w.clock.Now().Unix() + 60},
		"no iat":                {"iat": nil},
		"not yet valid":         {"nbf": w.clock.Now().Unix() + 60},
		"no sub":                {"sub": nil},
		"empty sub":             {"sub": ""},
		"no client_id":          {"client_id": nil},
		"no jti":                {"jti": nil},
		"bound, sent as bearer": {"cnf": map[string]any{"jkt": "x"}},
	} {
		w.refused(t, name, w.Token(changes))
	}
	for name, payload := range map[string]string{
		"member twice":            strings.Replace(string(claims), `{`, `{"sub":"mallory",`, 1),
		"member twice, by case":   strings.Replace(string(claims), `{`, `{"SUB":"mallory",`, 1),
		"member twice, by escape": strings.Replace(string(claims), `{`, `{"\u0073ub":"mallory",`, 1),
		"trailing data":           string(claims) + `{}`,
		"no object":               `"text"`,
		"empty":                   ``,
		"array":                   `[]`,
	} {
		w.refused(t, name, w.SignBytes(w.Key(), at, []byte(payload)))
	}
	w.refused(t, "header member twice", raw(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","typ":"at+jwt"}`)+"."+payload+"."+signature)
	w.refused(t, "tampered payload", head+"."+raw(strings.Replace(string(claims), "alice", "mallo", 1))+"."+signature)
	w.refused(t, "truncated signature", good[:len(good)-2])
	w.refused(t, "no signature", head+"."+payload+".")
	w.refused(t, "ASN.1 signature", asn1(t, w, head+"."+payload))
	w.refused(t, "padding", good+"==")
	w.refused(t, "non-canonical base64", nonCanonical(good))
	w.refused(t, "line break", head+"\n."+payload+"."+signature)
	w.refused(t, "trailing part", good+".x")
	w.refused(t, "two parts", head+"."+payload)
	w.refused(t, "absurd length", head+"."+payload+strings.Repeat("A", 10<<10)+"."+signature)
	w.refused(t, "dots", "..")
	w.refused(t, "garbage", "\x00\xff")
	w.passes(t, "still good", good)

	w.clock.advance(expires.Sub(w.clock.Now()) + 9*time.Second)
	w.passes(t, "within the leeway", good)
	w.clock.advance(time.Second)
	w.refused(t, "expired while it was remembered", good)
}

// hs256 signs with the public key as the secret, where a careless verifier
// would use it as one.
func hs256(t *testing.T, w *world) string {
	public, err := json.Marshal(jose.JSONWebKey{Key: w.Key().Private.Public()})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: public}, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "key-1"))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(w.Claims(nil))
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := jws.CompactSerialize()
	return token
}

func psWithRS(t *testing.T, w *world) string {
	k := w.AddKey("rsa", jose.RS256)
	w.clock.advance(11 * time.Second)
	w.passes(t, "RS256", w.Sign(k, map[string]any{"typ": "at+jwt"}, w.Claims(nil)))
	k.Algorithm = jose.PS256
	return w.Sign(k, map[string]any{"typ": "at+jwt"}, w.Claims(nil))
}

func asn1(t *testing.T, w *world, signed string) string {
	digest := sha256.Sum256([]byte(signed))
	signature, err := w.Key().Private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// nonCanonical sets a spare bit of the last character: decoders that are not
// strict read the same bytes.
func nonCanonical(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[i^1])
}

func TestC17TokenForAnotherAPI(t *testing.T) {
	w := newWorld(t)
	other := w.verifier(t, func(c *verify.Config) { c.Audience = "https://reports.example.com" })
	token := w.Token(nil)
	w.passes(t, "at its own API", token)
	if _, err := other.Verify(t.Context(), token); err == nil {
		t.Error("the other API accepts it")
	}
}

func TestC18WithdrawnKey(t *testing.T) {
	w := newWorld(t)
	leaked := w.AddKey("leaked", jose.ES256)
	w.clock.advance(11 * time.Second)
	token := w.Sign(leaked, map[string]any{"typ": "at+jwt"}, w.Claims(nil))
	w.passes(t, "before", token)
	w.RemoveKey("leaked")
	w.clock.advance(11 * time.Second)
	// Any token with an unknown key makes the verifier look again.
	w.refused(t, "unknown key", w.Sign(verifytest.Key{ID: "new", Algorithm: jose.ES256, Private: leaked.Private}, map[string]any{"typ": "at+jwt"}, w.Claims(nil)))
	w.refused(t, "after", token)
	w.passes(t, "another key's token", w.Token(nil))
}

func TestC20TokenOutsideOfTheHeader(t *testing.T) {
	w := newWorld(t)
	token := w.Token(nil)
	w.passes(t, "in the header", token)
	send := func(change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/", strings.NewReader("access_token="+token))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		change(r)
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, r)
		return rec
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"query":          {func(r *http.Request) { r.URL.RawQuery = "access_token=" + token }, 400},
		"query, escaped": {func(r *http.Request) { r.URL.RawQuery = "a=b&access%5Ftoken=" + token }, 401},
		"query beside header": {func(r *http.Request) {
			r.URL.RawQuery = "access_token=x"
			r.Header.Set("Authorization", "Bearer "+token)
		}, 400},
		"body":        {func(*http.Request) {}, 401},
		"two headers": {func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token} }, 400},
		"Basic":       {func(r *http.Request) { r.SetBasicAuth("alice", token) }, 400},
		"no scheme":   {func(r *http.Request) { r.Header.Set("Authorization", token) }, 400},
		"cookie":      {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "access_token", Value: token}) }, 401},
	} {
		if rec := send(c.change); rec.Code != c.status || rec.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d, %d expected; WWW-Authenticate %q", name, rec.Code, c.status, rec.Header().Get("WWW-Authenticate"))
		}
	}
}

func TestUnknownKeysCauseFewFetches(t *testing.T) {
	w := newWorld(t)
	before := w.Fetches.Load()
	var wg sync.WaitGroup
	for range 50 {
		k := verifytest.Key{ID: rand.Text(), Algorithm: jose.ES256, Private: w.Key().Private}
		token := w.Sign(k, map[string]any{"typ": "at+jwt"}, w.Claims(nil))
		wg.Go(func() {
			if _, err := w.v.Verify(context.Background(), token); err == nil {
				t.Error("a token with an unknown key passed")
			}
		})
	}
	wg.Wait()
	if n := w.Fetches.Load() - before; n != 1 {
		t.Errorf("50 unknown keys caused %d fetches, 1 expected", n)
	}
	w.AddKey("new", jose.EdDSA)
	w.clock.advance(11 * time.Second)
	k := w.AddKey("newer", jose.ES256)
	w.passes(t, "a key that is new", w.Sign(k, map[string]any{"typ": "at+jwt"}, w.Claims(nil)))
}

func TestIssuerOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.SetDown(true)
	late := w.verifier(t)
	if late.Ready() == nil {
		t.Error("ready without keys")
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	token := w.Token(nil)
	r.Header.Set("Authorization", "Bearer "+token)
	late.Require()(http.NotFoundHandler()).ServeHTTP(rec, r)
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("without keys: %d, 503 with Retry-After expected", rec.Code)
	}
	w.passes(t, "with keys at hand", token)
	w.clock.advance(25 * time.Hour)
	if w.v.Ready() == nil {
		t.Error("ready with keys of yesterday")
	}
}

// TestOnlyGoJOSE proves what an API gets with this package: the standard
// library and go-jose.
func TestOnlyGoJOSE(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(dep+"/", "github.com/solegate/solegate/keys/verify/") && !strings.HasPrefix(dep, "github.com/go-jose/go-jose/v4") {
			t.Errorf("the package imports %s", dep)
		}
	}
	if out, err = exec.Command("go", "list", "-m", "all").Output(); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(out), "\n"); lines > 6 {
		t.Errorf("the module graph has %d modules:\n%s", lines, out)
	}
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	good := w.Token(nil)
	f.Add(good)
	f.Add(nonCanonical(good))
	f.Add(raw(`{"alg":"none"}`, `{}`) + ".")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := w.v.Verify(t.Context(), token); err == nil && token != good {
			t.Errorf("%q passed", token)
		}
	})
}

// decodePart returns a part of a JWS.
func decodePart(jws string, part int) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.Split(jws, ".")[part])
}

// TestFetchOutlivesWhoAskedFirst: there is one fetch of the keys in ten seconds.
// A stranger who asks for it and hangs up must not use it up.
func TestFetchOutlivesWhoAskedFirst(t *testing.T) {
	issuer := verifytest.New(t)
	v, err := verify.New(t.Context(), verify.Config{Issuer: issuer.URL, Audience: "https://api.example.com", Development: true})
	if err != nil {
		t.Fatal(err)
	}
	token := issuer.Sign(issuer.AddKey("new", jose.ES256), map[string]any{"typ": "at+jwt"}, issuer.Claims(nil))
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := v.Verify(gone, token); err != nil {
		t.Errorf("the first to come with a new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("the next: %v", err)
	}
}
