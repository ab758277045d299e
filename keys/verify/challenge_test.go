package verify_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/solegate/solegate/keys/verify"
)

func TestChallenges(t *testing.T) {
	w := newWorld(t, func(c *verify.Config) {
		c.Origins = []string{"https://spa.example.com"}
		c.RequiredHeader = "X-Requested-With"
	})
	for name, c := range map[string]struct {
		token, origin, header string
		status                int
		challenge             string
	}{
		"good":          {w.Token(nil), "https://spa.example.com", "x", 200, ""},
		"no origin":     {w.Token(nil), "", "x", 200, ""},
		"no token":      {"", "", "x", 401, `Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", scope="openid"`},
		"scope missing": {w.Token(map[string]any{"scope": "other openid2"}), "", "x", 403, `error="insufficient_scope", error_description="The access token lacks a scope that this needs.", scope="openid"`},
		"other origin":  {w.Token(nil), "https://spa.example.com.evil.net", "x", 403, `error="invalid_request"`},
		"null origin":   {w.Token(nil), "null", "x", 403, `error="invalid_request"`},
		"no header":     {w.Token(nil), "https://spa.example.com", "", 403, `error="invalid_request"`},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		for header, value := range map[string]string{"Origin": c.origin, "X-Requested-With": c.header} {
			if value != "" {
				r.Header.Set(header, value)
			}
		}
		if c.token != "" {
			r.Header.Set("Authorization", "bearer "+c.token)
		}
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, r)
		if got := rec.Header().Get("WWW-Authenticate"); rec.Code != c.status || !strings.Contains(got, c.challenge) {
			t.Errorf("%s: %d %q, %d %q expected", name, rec.Code, got, c.status, c.challenge)
		}
	}
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, func(c *verify.Config) { c.Audience = "https://api.example.com/v1"; c.Scopes = []string{"a"} })
	if p := w.v.MetadataPath(); p != "/.well-known/oauth-protected-resource/v1" {
		t.Errorf("path %q", p)
	}
	rec := httptest.NewRecorder()
	w.v.Metadata().ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	want := `{"resource":"https://api.example.com/v1","authorization_servers":["` + w.URL + `"],"bearer_methods_supported":["header"],"scopes_supported":["a"],"dpop_signing_alg_values_supported":["ES256","PS256","EdDSA","Ed25519"]}`
	if rec.Body.String() != want {
		t.Errorf("got %s", rec.Body)
	}
}

func TestForeignMetadataIsRefused(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"issuer": "https://evil.example", "jwks_uri": server.URL + "/jwks"})
	})
	v, err := verify.New(t.Context(), verify.Config{Issuer: server.URL, Audience: audience, Development: true})
	if err != nil {
		t.Fatal(err)
	}
	if v.Ready() == nil {
		t.Error("another issuer's metadata was believed")
	}
}

// TestDPoPChallenges holds what each kind of API says to who comes without a
// token, with one, and looks at its metadata.
func TestDPoPChallenges(t *testing.T) {
	const dpop = `DPoP algs="ES256 PS256 EdDSA Ed25519", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	const bearer = `Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	const refused = `, error="invalid_token", error_description="The access token is invalid or has expired."`
	const algorithms = `"dpop_signing_alg_values_supported":["ES256","PS256","EdDSA","Ed25519"]`
	none, wrong := "", "x"
	for _, c := range []struct {
		name                      string
		option                    func(*verify.Config)
		none, asBearer, asDPoP    []string
		metadata, metadataWithout string
	}{
		{"both", func(*verify.Config) {},
			[]string{bearer + `, scope="openid"`, dpop + `, scope="openid"`}, []string{bearer + refused, dpop}, []string{dpop + refused},
			`"bearer_methods_supported":["header"],` + algorithms, "required"},
		{"DPoP only", func(c *verify.Config) { c.RequireDPoP = true },
			[]string{dpop + `, scope="openid"`}, []string{dpop + refused}, []string{dpop + refused},
			`"bearer_methods_supported":[],` + algorithms + `,"dpop_bound_access_tokens_required":true`, "header"},
		{"no address", func(c *verify.Config) { c.Audience = "notes" },
			[]string{`Bearer scope="openid"`}, []string{`Bearer ` + refused[2:]}, []string{`Bearer ` + refused[2:]},
			`"bearer_methods_supported":["header"]`, "dpop"},
		{"address beside the audience", func(c *verify.Config) { c.Audience = "notes"; c.PublicURL = "https://api.example.com" },
			[]string{`Bearer scope="openid"`, `DPoP algs="ES256 PS256 EdDSA Ed25519", scope="openid"`}, []string{`Bearer ` + refused[2:], `DPoP algs="ES256 PS256 EdDSA Ed25519"`}, []string{`DPoP algs="ES256 PS256 EdDSA Ed25519"` + refused},
			algorithms, "required"},
	} {
		w := newWorld(t, c.option)
		call := func(scheme, token string) []string {
			r := httptest.NewRequest("GET", "/", nil)
			if token != none {
				r.Header.Set("Authorization", scheme+" "+token)
			}
			rec := serve(w.api, r)
			if rec.Code != 401 {
				t.Errorf("%s: %d, 401 expected", c.name, rec.Code)
			}
			return rec.Header()["Www-Authenticate"]
		}
		for scheme, want := range map[string][2][]string{"no token": {call("", none), c.none}, "bearer": {call("bearer", wrong), c.asBearer}, "dpop": {call("dpop", wrong), c.asDPoP}} {
			if !slices.Equal(want[0], want[1]) {
				t.Errorf("%s, %s: got %q, want %q", c.name, scheme, want[0], want[1])
			}
		}
		if m := serve(w.v.Metadata(), httptest.NewRequest("GET", "/", nil)).Body.String(); !strings.Contains(m, c.metadata) || strings.Contains(m, c.metadataWithout) {
			t.Errorf("%s: metadata %s", c.name, m)
		}
	}
}

// TestSchemesAreAsConfigured has an API that takes no Bearer, and one that
// can't take DPoP as it doesn't know its own address.
func TestSchemesAreAsConfigured(t *testing.T) {
	both := newWorld(t)
	strict := both.verifier(t, func(c *verify.Config) { c.RequireDPoP = true }).Require("openid")(both.api)
	lost := both.verifier(t, func(c *verify.Config) { c.Audience = "notes" }).Require("openid")(both.api)
	bound := both.client(t)
	forLost := &client{bound.ProofKey, both.BoundToken(bound.ProofKey, map[string]any{"aud": []string{"notes", audience}})}
	bearer := httptest.NewRequest("GET", "/notes", nil)
	bearer.Header.Set("Authorization", "Bearer "+both.Token(map[string]any{"aud": []string{"notes", audience}}))

	both.expect(t, "bound", bound.request(bound.proof(nil)), 200, "")
	both.expect(t, "bearer", bearer, 200, "")
	rec := serve(strict, bearer)
	if challenges := rec.Header()["Www-Authenticate"]; rec.Code != 401 || len(challenges) != 1 || !strings.HasPrefix(challenges[0], "DPoP ") {
		t.Errorf("a good bearer token where DPoP is required: %d %q", rec.Code, challenges)
	}
	if rec := serve(lost, bearer); rec.Code != 200 {
		t.Errorf("bearer where DPoP can't be: %d", rec.Code)
	}
	rec = serve(lost, forLost.request(forLost.proof(nil)))
	if challenges := rec.Header()["Www-Authenticate"]; rec.Code != 401 || len(challenges) != 1 || !strings.HasPrefix(challenges[0], `Bearer error="invalid_token"`) {
		t.Errorf("DPoP where it can't be: %d %q", rec.Code, challenges)
	}
}

func TestCORSForDPoP(t *testing.T) {
	w := newWorld(t, func(c *verify.Config) {
		c.Origins = []string{"https://spa.example.com"}
		c.DPoPNonceKey = make([]byte, 32)
	})
	h := w.v.CORS(w.api)
	r := httptest.NewRequest("OPTIONS", "/notes", nil)
	r.Header.Set("Origin", "https://spa.example.com")
	r.Header.Set("Access-Control-Request-Method", "GET")
	r.Header.Set("Access-Control-Request-Headers", "authorization,dpop")
	if rec := serve(h, r); rec.Code != 204 || rec.Header().Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, DPoP" {
		t.Errorf("preflight: %d %v", rec.Code, rec.Header())
	}
	c := w.client(t)
	r = c.request(c.proof(nil))
	r.Header.Set("Origin", "https://spa.example.com")
	if rec := serve(h, r); rec.Code != 401 || rec.Header().Get("DPoP-Nonce") == "" || rec.Header().Get("Access-Control-Expose-Headers") != "WWW-Authenticate, Retry-After, DPoP-Nonce, RateLimit, RateLimit-Policy" {
		t.Errorf("the page can't read why: %d %v", rec.Code, rec.Header())
	}
}

// TestVerifyRequest is for who can't use Require.
func TestVerifyRequest(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	token, err := w.v.VerifyRequest(c.request(c.proof(nil)), "openid")
	if err != nil || token.Subject != "alice" || token.JKT != c.JKT {
		t.Fatalf("got %+v, %v", token, err)
	}
	for name, x := range map[string]struct {
		r      *http.Request
		scope  string
		status int
		code   string
	}{
		"no token":  {httptest.NewRequest("GET", "/notes", nil), "openid", 401, ""},
		"bad proof": {c.request("x"), "openid", 401, "invalid_dpop_proof"},
		"no scope":  {c.request(c.proof(nil)), "admin", 403, "insufficient_scope"},
	} {
		_, err := w.v.VerifyRequest(x.r, x.scope)
		e, ok := errors.AsType[*verify.Error](err)
		if !ok || e.Status != x.status || e.Code != x.code || e.Error() == "" {
			t.Errorf("%s: got %v", name, err)
		}
		rec := httptest.NewRecorder()
		if w.v.Refuse(rec, x.r, err, x.scope); rec.Code != x.status || !strings.Contains(rec.Header().Get("WWW-Authenticate"), x.code) {
			t.Errorf("%s: %d %v", name, rec.Code, rec.Header())
		}
	}
	rec := httptest.NewRecorder()
	if w.v.Refuse(rec, c.request(""), errors.New("secret")); rec.Code != 500 || strings.Contains(rec.Body.String(), "secret") {
		t.Errorf("an error of the caller's own: %d %s", rec.Code, rec.Body)
	}
}
