package attacks

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// machine registers a client that signs with the forger's key, under kid "a",
// and returns the header and the claims of its good assertions.
func machine(t *testing.T, s *authztest.Server, id clients.ID, f *forger) (header map[string]any, claims func(changes map[string]any) string) {
	t.Helper()
	jwk := map[string]any{"kid": "a", "use": "sig", "alg": "ES256"}
	for name, v := range f.jwk {
		jwk[name] = v
	}
	jwks, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	check(t, err)
	s.AddClient(clients.Client{
		ID: id, AuthMethod: clients.PrivateKeyJWT, JWKS: jwks, RedirectURIs: []clients.RedirectURI{"https://app.example.com/callback"},
		Audiences: []string{authztest.Audience}, Scopes: []string{"openid", "notes:read"}, GrantTypes: []string{"authorization_code", "client_credentials"},
	})
	return map[string]any{"alg": "ES256", "kid": "a"}, func(changes map[string]any) string {
		now := s.Clock.Now().Unix()
		return object(t, map[string]any{"iss": id, "sub": id, "aud": s.URL, "iat": now, "exp": now + 60, "jti": rand.Text()}, changes)
	}
}

// many are claims that nobody knows.
func many(n int) map[string]any {
	all := map[string]any{}
	for i := range n {
		all["x"+strconv.Itoa(i)] = i
	}
	return all
}

func asserting(assertion string, changes ...string) url.Values {
	return with(url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {jwtBearer}, "client_assertion": {assertion}}, changes...)
}

// TestForgedAssertions: another key, another algorithm, another kind, another
// reading.
func TestForgedAssertions(t *testing.T) {
	s := authztest.New(t)
	mine, theirs := newForger(t), newForger(t)
	header, claims := machine(t, s, "backend", mine)
	machine(t, s, "other", theirs)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: rsaKey, KeyID: "a"}}, nil)
	check(t, err)
	rs256, err := signer.Sign([]byte(claims(nil)))
	check(t, err)
	rsa256, err := rs256.CompactSerialize()
	check(t, err)
	der, err := x509.MarshalPKIXPublicKey(mine.private.Public())
	check(t, err)
	of := func(changes map[string]any) string { return object(t, header, changes) }
	for name, assertion := range map[string]string{
		"a good one":     mine.sign(t, of(nil), claims(nil)),
		"no kid":         mine.sign(t, of(map[string]any{"kid": nil}), claims(nil)),
		"typ JWT":        mine.sign(t, of(map[string]any{"typ": "JWT"}), claims(nil)),
		"its own typ":    mine.sign(t, of(map[string]any{"typ": "client-authentication+jwt"}), claims(nil)),
		"unknown claims": mine.sign(t, of(nil), claims(map[string]any{"scope": "openid admin", "azp": "x"})),
	} {
		if got := post(t, s, "/token", asserting(assertion)); got.Status != http.StatusOK || got.Scope != "notes:read" {
			t.Fatalf("%s: %+v", name, got)
		}
	}
	good := mine.sign(t, of(nil), claims(nil))
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for name, assertion := range map[string]string{
		"another client's key":       theirs.sign(t, of(nil), claims(nil)),
		"a stranger's key":           newForger(t).sign(t, of(nil), claims(nil)),
		"alg none":                   encode([]byte(of(map[string]any{"alg": "none"}))) + "." + payload + ".",
		"alg none, with a signature": encode([]byte(of(map[string]any{"alg": "none"}))) + "." + payload + "." + signature,
		"HS256 with the public key":  hs256(of(map[string]any{"alg": "HS256"}), claims(nil), der),
		"HS256 with the JWK":         hs256(of(map[string]any{"alg": "HS256"}), claims(nil), []byte(object(t, mine.jwk, nil))),
		"HS256 with the client id":   hs256(of(map[string]any{"alg": "HS256"}), claims(nil), []byte("backend")),
		"HS256 with nothing":         hs256(of(map[string]any{"alg": "HS256"}), claims(nil), nil),
		"RS256":                      rsa256,
		"ES256 as ES384":             mine.sign(t, of(map[string]any{"alg": "ES384"}), claims(nil)),
		"ES256 as EdDSA":             mine.sign(t, of(map[string]any{"alg": "EdDSA"}), claims(nil)),
		"alg in lower case":          mine.sign(t, of(map[string]any{"alg": "es256"}), claims(nil)),
		"no alg":                     mine.sign(t, of(map[string]any{"alg": nil}), claims(nil)),
		"another kid":                mine.sign(t, of(map[string]any{"kid": "b"}), claims(nil)),
		"a kid that is a path":       mine.sign(t, of(map[string]any{"kid": "../../dev/null"}), claims(nil)),
		"a kid that is SQL":          mine.sign(t, of(map[string]any{"kid": "a' OR '1'='1"}), claims(nil)),
		"a kid that is a list":       mine.sign(t, of(map[string]any{"kid": []string{"a"}}), claims(nil)),
		"a key of its own":           theirs.sign(t, of(map[string]any{"jwk": theirs.jwk}), claims(nil)),
		"jku":                        theirs.sign(t, of(map[string]any{"jku": "https://evil.net/jwks"}), claims(nil)),
		"x5u":                        theirs.sign(t, of(map[string]any{"x5u": "https://evil.net/cert"}), claims(nil)),
		"the right key in jwk":       mine.sign(t, of(map[string]any{"jwk": mine.jwk}), claims(nil)),
		"crit":                       mine.sign(t, of(map[string]any{"crit": []string{"b64"}, "b64": false}), claims(nil)),
		"typ of a proof":             mine.sign(t, of(map[string]any{"typ": "dpop+jwt"}), claims(nil)),
		"typ of an access token":     mine.sign(t, of(map[string]any{"typ": "at+jwt"}), claims(nil)),
		"a header and a brace":       mine.sign(t, of(nil)+"}", claims(nil)),
		"a header and another":       mine.sign(t, of(nil)+"{}", claims(nil)),
		"a payload and another":      mine.sign(t, of(nil), claims(nil)+"{}"),
		"a payload that is a list":   mine.sign(t, of(nil), "["+claims(nil)+"]"),
		"a payload that is null":     mine.sign(t, of(nil), "null"),
		"a header that is null":      mine.sign(t, "null", claims(nil)),
		"a kid twice":                mine.sign(t, `{"kid":"b",`+of(nil)[1:], claims(nil)),
		"a kid in another case":      mine.sign(t, of(map[string]any{"kid": nil, "KID": "a"}), claims(nil)),
		"an aud twice":               mine.sign(t, of(nil), `{"aud":"https://other.example",`+claims(nil)[1:]),
		"an aud in another case":     mine.sign(t, of(nil), claims(map[string]any{"AUD": "https://other.example"})),
		"a sub by a look-alike":      mine.sign(t, of(nil), claims(map[string]any{"\u017fub": "other"})),
		"a hundred claims":           mine.sign(t, of(nil), claims(many(100))),
		"an empty payload":           mine.sign(t, of(nil), ""),
		"no signature":               head + "." + payload + ".",
		"two parts":                  head + "." + payload,
		"four parts":                 good + ".x",
		"a signature of zeros":       head + "." + payload + "." + encode(make([]byte, 64)),
		"half a signature":           head + "." + payload + "." + signature[:43],
		"another payload":            head + "." + encode([]byte(claims(nil))) + "." + signature,
		"padded":                     good + "==",
		"a line break":               head + "." + payload + ".\n" + signature,
		"9 KB":                       mine.sign(t, of(nil), claims(map[string]any{"x": strings.Repeat("x", 9<<10)})),
		"empty":                      "",
		"dots":                       "..",
		"a DPoP proof":               s.Key().Proof("POST", s.URL+"/token", map[string]any{"iss": "backend", "sub": "backend", "aud": s.URL, "exp": s.Clock.Now().Unix() + 60}),
		"of another client":          mine.sign(t, of(nil), claims(map[string]any{"iss": "other", "sub": "other"})),
		"of the public client":       mine.sign(t, of(nil), claims(map[string]any{"iss": "spa", "sub": "spa"})),
		"of nobody":                  mine.sign(t, of(nil), claims(map[string]any{"iss": "nobody", "sub": "nobody"})),
		"another iss":                mine.sign(t, of(nil), claims(map[string]any{"iss": "other"})),
		"another sub":                mine.sign(t, of(nil), claims(map[string]any{"sub": "other"})),
		"no iss":                     mine.sign(t, of(nil), claims(map[string]any{"iss": nil})),
		"no sub":                     mine.sign(t, of(nil), claims(map[string]any{"sub": nil})),
		"sub is a number":            mine.sign(t, of(nil), claims(map[string]any{"sub": 7})),
		"aud of another issuer":      mine.sign(t, of(nil), claims(map[string]any{"aud": "https://evil.net"})),
		"aud of /token":              mine.sign(t, of(nil), claims(map[string]any{"aud": s.URL + "/token"})),
		"aud with a slash":           mine.sign(t, of(nil), claims(map[string]any{"aud": s.URL + "/"})),
		"aud in upper case":          mine.sign(t, of(nil), claims(map[string]any{"aud": strings.ToUpper(s.URL)})),
		"aud as a list":              mine.sign(t, of(nil), claims(map[string]any{"aud": []string{s.URL}})),
		"two aud":                    mine.sign(t, of(nil), claims(map[string]any{"aud": []string{s.URL, "https://evil.net"}})),
		"aud is null":                mine.sign(t, of(nil), claims(map[string]any{"aud": json.RawMessage("null")})),
		"no aud":                     mine.sign(t, of(nil), claims(map[string]any{"aud": nil})),
		"aud of the client":          mine.sign(t, of(nil), claims(map[string]any{"aud": "backend"})),
		"no jti":                     mine.sign(t, of(nil), claims(map[string]any{"jti": nil})),
		"an empty jti":               mine.sign(t, of(nil), claims(map[string]any{"jti": ""})),
		"a jti of 1000 bytes":        mine.sign(t, of(nil), claims(map[string]any{"jti": strings.Repeat("x", 1000)})),
		"a jti that is a number":     mine.sign(t, of(nil), claims(map[string]any{"jti": 7})),
		"no exp":                     mine.sign(t, of(nil), claims(map[string]any{"exp": nil})),
		"expired":                    mine.sign(t, of(nil), claims(map[string]any{"exp": s.Clock.Now().Unix()})),
		"an exp of zero":             mine.sign(t, of(nil), claims(map[string]any{"exp": 0})),
		"an exp below zero":          mine.sign(t, of(nil), claims(map[string]any{"exp": -1})),
		"an exp that is text":        mine.sign(t, of(nil), claims(map[string]any{"exp": "9999999999"})),
		"an absurd exp":              mine.sign(t, of(nil), claims(map[string]any{"exp": 1e300})),
		"an exp beyond all numbers":  mine.sign(t, of(nil), claims(map[string]any{"exp": json.RawMessage("1e999")})),
		"an exp of eleven minutes":   mine.sign(t, of(nil), claims(map[string]any{"exp": s.Clock.Now().Unix() + 660})),
		"an iat of the future":       mine.sign(t, of(nil), claims(map[string]any{"iat": s.Clock.Now().Unix() + 11})),
		"an nbf of the future":       mine.sign(t, of(nil), claims(map[string]any{"nbf": s.Clock.Now().Unix() + 11})),
	} {
		for path, form := range map[string]url.Values{
			"/token": asserting(assertion), "/token with client_id": asserting(assertion, "client_id", "backend"),
			"/par":    with(s.Authorization("client_id", "backend", "redirect_uri", "https://app.example.com/callback", "scope", "openid"), "client_assertion_type", jwtBearer, "client_assertion", assertion),
			"/revoke": asserting(assertion, "token", "x", "client_id", "backend"), "/introspect": asserting(assertion, "token", "x"),
		} {
			if assertion == "" {
				form["client_assertion"] = []string{""}
			}
			path, _, _ = strings.Cut(path, " ")
			got := post(t, s, path, form)
			if got.Error != "invalid_client" || got.Status != http.StatusBadRequest && got.Status != http.StatusUnauthorized || got.AccessToken != "" {
				t.Errorf("%s at %s: %+v", name, path, got)
			}
		}
	}
	// The good one was not used up by what was made of it.
	if got := post(t, s, "/token", asserting(good)); got.Status != http.StatusOK {
		t.Errorf("the good one: %+v", got)
	}
}

// TestAssertionReplays: an assertion is good once, at one endpoint, at one
// server, however many try at once and whatever the clocks say.
func TestAssertionReplays(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, nil)
	servers := []*authztest.Server{s, s.Replica()}
	form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	var passed atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			switch got := post(t, servers[i%2], "/token", form); {
			case got.Status == http.StatusOK:
				passed.Add(1)
			case got.Error != "invalid_client" || got.Status != http.StatusBadRequest:
				t.Errorf("a loser got %+v", got)
			}
		})
	}
	all.Wait()
	if n := passed.Load(); n != 1 {
		t.Errorf("%d of 50 passed", n)
	}
	for path, more := range map[string]url.Values{"/par": s.Authorization(ofBackend()...), "/revoke": {"token": {"x"}}} {
		for name := range more {
			form.Set(name, more.Get(name))
		}
		if got := post(t, s, path, form); got.Error != "invalid_client" {
			t.Errorf("again at %s: %+v", path, got)
		}
	}
	// Two assertions with one jti are one; of another client, they are two.
	same := map[string]any{"jti": "the same one"}
	if got := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, same)); got.Status != http.StatusOK {
		t.Errorf("a new jti: %+v", got)
	}
	if got := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, same)); got.Error != "invalid_client" {
		t.Errorf("its jti again: %+v", got)
	}
	c.ID = "another"
	s.AddClient(c)
	if got := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, same)); got.Status != http.StatusOK {
		t.Errorf("another client's: %+v", got)
	}
}

// TestUsedAssertionIsRememberedAsLongAsItIsGood, also by servers whose clocks
// are behind.
func TestUsedAssertionIsRememberedAsLongAsItIsGood(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, nil)
	slow := skewed(s, -5*time.Second)
	form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	if got := post(t, s, "/token", form); got.Status != http.StatusOK {
		t.Fatalf("the first use: %+v", got)
	}
	for second := range 80 {
		s.Clock.Advance(time.Second)
		if _, err := s.Store.Sweep(t.Context(), s.Clock.Now(), 1000); err != nil {
			t.Fatal(err)
		}
		for name, server := range map[string]*authztest.Server{"the same server": s, "a slow one": slow} {
			if got := post(t, server, "/token", form); got.Error != "invalid_client" {
				t.Fatalf("replayed at %s after %d s: %+v", name, second+1, got)
			}
		}
	}
}

// TestNonceChallengeBurnsNoAssertion, nor does any other refusal that comes
// before it: the client tries again with what it has.
func TestNonceChallengeBurnsNoAssertion(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, func(c *clients.Client) { c.Profile = clients.Hardened })
	key := s.Key()
	form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	told := post(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil))
	if told.Error != "use_dpop_nonce" || told.Header.Get("DPoP-Nonce") == "" {
		t.Fatalf("without a nonce: %+v", told)
	}
	if got := post(t, s, "/token", form); got.Error != "invalid_dpop_proof" {
		t.Errorf("without a proof: %+v", got)
	}
	got := post(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", map[string]any{"nonce": told.Header.Get("DPoP-Nonce")}))
	if got.TokenType != "DPoP" || jktOf(t, got) != key.JKT {
		t.Errorf("with the nonce and the same assertion: %+v", got)
	}
}
