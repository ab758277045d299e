// Package verifytest is an issuer for an API's own tests:
//
//	issuer := verifytest.New(t)
//	v, err := verify.New(ctx, verify.Config{Issuer: issuer.URL, Audience: "https://api.example.com", Development: true})
//	token := issuer.Token(map[string]any{"aud": "https://api.example.com", "scope": "orders:read"})
//
// For tokens that are bound to a client's key, and the proofs that go with
// them, see [ProofKey]. For an API that follows the revocation feed, give it a
// credential, and revoke:
//
//	v, err := verify.New(ctx, verify.Config{…, Credential: issuer.Credential("https://api.example.com"), Feed: &verify.Feed{}})
//	issuer.Revoke(feed.Session, "session")
//
// [Feed] can be cut, stalled and tampered with. In a bubble of testing/synctest,
// where time passes at once, use [NewInMemory].
//
// For limits, see [Clock], and for what the API reported [Issuer.Reports].
package verifytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/reports"
)

// Issuer is an authorization server that publishes metadata and keys, and
// signs whatever it is told to.
type Issuer struct {
	URL string
	// Client reaches the issuer: Config.Client, if it was not made by New.
	Client *http.Client
	// Fetches counts how often the key set was fetched.
	Fetches atomic.Int64
	// Feed is the revocation feed.
	Feed *Feed

	tb     testing.TB
	closed chan struct{} // when the test ends

	mu   sync.Mutex
	keys []Key
	down bool
	now  func() time.Time

	received received
}

// Key is a key of the issuer.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

// New starts an issuer on loopback with one ES256 key.
func New(tb testing.TB) *Issuer {
	return start(tb, func(s *httptest.Server, i *Issuer) {
		s.Start()
		i.Client = s.Client()
	})
}

// NewTLS is New with TLS and HTTP/2. Its certificate is known to Client.
func NewTLS(tb testing.TB) *Issuer {
	return start(tb, func(s *httptest.Server, i *Issuer) {
		s.EnableHTTP2 = true
		s.StartTLS()
		i.Client = s.Client()
	})
}

// NewInMemory is New without a network, for bubbles of testing/synctest. Only
// Client reaches it.
func NewInMemory(tb testing.TB) *Issuer {
	return start(tb, func(s *httptest.Server, i *Issuer) {
		s.Listener.Close()
		p := newPipes()
		s.Listener = p
		s.Start()
		transport := &http.Transport{DialContext: p.dial}
		tb.Cleanup(transport.CloseIdleConnections)
		i.Client = &http.Client{Transport: transport}
	})
}

func start(tb testing.TB, start func(*httptest.Server, *Issuer)) *Issuer {
	i := &Issuer{tb: tb, now: time.Now, closed: make(chan struct{})}
	i.Feed = newFeed(i)
	mux := http.NewServeMux()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that were cut on purpose
	start(server, i)
	tb.Cleanup(func() {
		close(i.closed)
		server.Close()
	})
	i.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	i.URL = server.URL
	i.Feed.serve(mux)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/jwks", feed.MetadataName: i.URL + "/feed", "introspection_endpoint": i.URL + "/introspect"})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		i.Fetches.Add(1)
		i.mu.Lock()
		var set jose.JSONWebKeySet
		for _, k := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig"})
		}
		i.mu.Unlock()
		i.answer(w, set)
	})
	i.received.batches = map[string]bool{}
	mux.Handle("POST "+reports.Path, &i.received)
	i.AddKey("key-1", jose.ES256)
	return i
}

func (i *Issuer) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.tb.Error(err)
	}
}

// SetDown makes the issuer answer everything with 503, or not.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetClock gives the issuer another clock.
func (i *Issuer) SetClock(now func() time.Time) { i.now = now }

// AddKey publishes a new key.
func (i *Issuer) AddKey(id string, alg jose.SignatureAlgorithm) Key {
	i.tb.Helper()
	k := Key{ID: id, Algorithm: alg}
	var err error
	switch alg {
	case jose.ES256:
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	case jose.RS256, jose.PS256:
		k.Private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("algorithm %s is not supported", alg)
	}
	if err != nil {
		i.tb.Fatal(err)
	}
	i.Publish(k)
	return k
}

// Publish publishes a key that was made elsewhere.
func (i *Issuer) Publish(k Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
}

// RemoveKey withdraws a key.
func (i *Issuer) RemoveKey(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var rest []Key
	for _, k := range i.keys {
		if k.ID != id {
			rest = append(rest, k)
		}
	}
	i.keys = rest
}

// Key returns the first published key.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

// Claims returns the claims of a good access token with the changes; a nil
// value removes a claim. It is of the epochs that [Issuer.Revoke] has begun for
// its user and its client.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	now := i.now().Unix()
	claims := change(map[string]any{
		"iss": i.URL, "sub": "alice", "aud": "https://api.example.com", "client_id": "spa",
		"iat": now, "exp": now + 300, "jti": fmt.Sprintf("%x", rand.Text()), "scope": "openid", "grant_id": "grant", "sid": "session",
	}, changes)
	for claim, epoch := range i.Feed.epochsOf(claims) {
		if _, ok := changes[claim]; !ok {
			claims[claim] = epoch
		}
	}
	return claims
}

// Token returns an access token with the changes in its claims, signed with
// the first published key.
func (i *Issuer) Token(changes map[string]any) string {
	i.tb.Helper()
	return i.Sign(i.Key(), map[string]any{"typ": "at+jwt"}, i.Claims(changes))
}

// Sign signs claims with a key; alg and kid are in the header, and what is
// given beside.
func (i *Issuer) Sign(k Key, header, claims map[string]any) string {
	i.tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		i.tb.Fatal(err)
	}
	return i.SignBytes(k, header, payload)
}

// SignBytes is Sign for a payload that is given as it is.
func (i *Issuer) SignBytes(k Key, header map[string]any, payload []byte) string {
	i.tb.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}}, options)
	if err != nil {
		i.tb.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		i.tb.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		i.tb.Fatal(err)
	}
	return token
}
