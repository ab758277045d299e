package attacks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// post posts a form as a program outside of any browser does, with headers as
// pairs of name and value; a name may stand twice.
func post(t *testing.T, s *authztest.Server, path string, form url.Values, headers ...string) authztest.Tokens {
	t.Helper()
	return s.Do(request(t, "POST", s.Address+path, form, headers...))
}

func request(t *testing.T, method, uri string, form url.Values, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, uri, strings.NewReader(form.Encode()))
	check(t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// exchange is the form of a code exchange, and refreshing that of a refresh, as
// the SPA sends them.
func exchange(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"spa"}, "code": {code},
		"redirect_uri": {"https://spa.example.com/callback"}, "code_verifier": {authztest.Verifier},
	}
}

func refreshing(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {token}}
}

// with is the form, but for the changes: pairs of name and value, an empty
// value removes the name.
func with(form url.Values, changes ...string) url.Values {
	form = maps.Clone(form)
	for i := 0; i < len(changes); i += 2 {
		form.Del(changes[i])
		if changes[i+1] != "" {
			form.Set(changes[i], changes[i+1])
		}
	}
	return form
}

// userInfo asks the userinfo endpoint and returns the status and the challenge.
func userInfo(t *testing.T, s *authztest.Server, scheme, token string, headers ...string) (int, string) {
	t.Helper()
	r := request(t, "GET", s.Address+"/userinfo", nil, headers...)
	r.Header.Set("Authorization", scheme+" "+token)
	resp, err := http.DefaultClient.Do(r)
	check(t, err)
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate")
}

// proofFor is a good proof for the userinfo endpoint with the token.
func proofFor(s *authztest.Server, key *authztest.Key, token string) string {
	return key.Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(token)})
}

// jktOf is the thumbprint of the key that the access token is bound to.
func jktOf(t *testing.T, tokens authztest.Tokens) string {
	t.Helper()
	cnf, _ := authztest.Claims(t, tokens.AccessToken)["cnf"].(map[string]any)
	jkt, _ := cnf["jkt"].(string)
	return jkt
}

// backend registers a confidential client that signs assertions.
func backend(s *authztest.Server, change func(*clients.Client)) (clients.Client, *authztest.Signer) {
	signer := s.Signer()
	c := clients.Client{
		ID: "backend", AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS,
		RedirectURIs: []clients.RedirectURI{"https://app.example.com/callback"},
		Audiences:    []string{authztest.Audience},
		Scopes:       []string{"openid", "offline_access", "notes:read"},
		GrantTypes:   []string{"authorization_code", "refresh_token", "client_credentials"},
	}
	if change != nil {
		change(&c)
	}
	return s.AddClient(c), signer
}

// ofBackend are the changes that make an authorization request the backend's.
func ofBackend(changes ...string) []string {
	return append([]string{"client_id", "backend", "redirect_uri", "https://app.example.com/callback", "scope", "openid offline_access notes:read"}, changes...)
}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// introspecting registers the API's credential and returns a function that asks
// about a token and tells whether it is active.
func introspecting(t *testing.T, s *authztest.Server) func(token string) bool {
	t.Helper()
	rs := clients.ResourceServer{ID: "notes-api", Audience: authztest.Audience}
	secret, err := rs.NewSecret(rand.Reader)
	check(t, err)
	check(t, s.Store.CreateResourceServer(t.Context(), rs))
	return func(token string) bool {
		t.Helper()
		body := s.Body(request(t, "POST", s.Address+"/introspect", url.Values{"token": {token}}, "Authorization", basic("notes-api", secret)))
		if active := strings.HasPrefix(body, `{"active":true`); active || strings.HasPrefix(body, `{"active":false}`) {
			return active
		}
		t.Fatalf("introspection answered %s", body)
		return false
	}
}

// left is what an attack may leave behind.
type left struct{ grants, sessions int }

func leftBehind(t *testing.T, s *authztest.Server) left {
	t.Helper()
	return left{len(grantsOf(t, s)), len(sessionsOf(t, s))}
}

// redeemed counts alice's grants whose code was used.
func redeemed(t *testing.T, s *authztest.Server) (n int) {
	t.Helper()
	for _, g := range grantsOf(t, s) {
		if !g.RedeemedAt.IsZero() {
			n++
		}
	}
	return n
}

func liveGrants(t *testing.T, s *authztest.Server) (live []storage.Grant) {
	t.Helper()
	for _, g := range grantsOf(t, s) {
		if g.RevokedAt.IsZero() {
			live = append(live, g)
		}
	}
	return live
}

// noSecrets fails if one of the secrets, or its second half, is in the log or in
// what the store keeps of the audit log.
func noSecrets(t *testing.T, s *authztest.Server, secrets map[string]string) {
	t.Helper()
	log := s.Log.String() + s.Audited()
	for name, secret := range secrets {
		if len(secret) < 16 || strings.Contains(log, secret) || strings.Contains(log, secret[len(secret)/2:]) {
			t.Errorf("the %s is in the log, or there is none: %.20q", name, secret)
		}
	}
}

// forger makes any JWS, with one P-256 key.
type forger struct {
	private *ecdsa.PrivateKey
	jwk     map[string]any // its public half
}

func newForger(t *testing.T) *forger {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return forgerOf(t, private)
}

func forgerOf(t *testing.T, private *ecdsa.PrivateKey) *forger {
	t.Helper()
	public, err := jose.JSONWebKey{Key: private.Public()}.MarshalJSON()
	check(t, err)
	f := &forger{private: private}
	check(t, json.Unmarshal(public, &f.jwk))
	return f
}

// sign signs whatever stands in the header and the payload by ES256.
func (f *forger) sign(t *testing.T, header, payload string) string {
	t.Helper()
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.private, digest[:])
	check(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode(signature)
}

// hs256 signs with a symmetric key.
func hs256(header, payload string, key []byte) string {
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	m := hmac.New(sha256.New, key)
	m.Write([]byte(input))
	return input + "." + encode(m.Sum(nil))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// object is v as JSON, but for the changes; a nil value removes a member.
func object(t *testing.T, v map[string]any, changes map[string]any) string {
	t.Helper()
	v = maps.Clone(v)
	maps.Copy(v, changes)
	maps.DeleteFunc(v, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(v)
	check(t, err)
	return string(text)
}

// listen serves on loopback until the test ends and returns the origin.
func listen(t *testing.T, server *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}

func decode(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }
