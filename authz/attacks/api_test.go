package attacks

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
)

// serve runs a server's work between requests until the test ends.
func serve(t *testing.T, s *authztest.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Handler.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// api is a replica of the API that verifies tokens by itself and follows the
// feed.
type api struct {
	t   *testing.T
	v   *verify.Verifier
	url string
}

// registerAPI registers the API's credential.
func registerAPI(t *testing.T, s *authztest.Server) verify.Credential {
	t.Helper()
	return registerResource(t, s, "api", authztest.Audience)
}

// registerResource registers a resource server and returns its credential.
func registerResource(t *testing.T, s *authztest.Server, id clients.ID, audience string) verify.Credential {
	t.Helper()
	secret := "the-secret-of-" + string(id)
	check(t, s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: id, Audience: audience, SecretHash: sha256.Sum256([]byte(secret))}))
	return verify.Credential{ID: string(id), Secret: secret}
}

// follow starts a replica of the API. It returns when that knows all there is
// to know.
func follow(t *testing.T, s *authztest.Server, c verify.Credential, client *http.Client) *api {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	v, err := verify.New(ctx, verify.Config{
		Issuer: s.URL, Audience: authztest.Audience, Development: true, Now: s.Clock.Now, Client: client, Credential: &c, Feed: &verify.Feed{StaleAfter: 10 * time.Second},
	})
	check(t, err)
	return start(t, v, v.Require()(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
}

// start serves an API when its verifier knows all there is to know.
func start(t *testing.T, v *verify.Verifier, h http.Handler) *api {
	t.Helper()
	for v.Ready() != nil {
		runtime.Gosched()
	}
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	return &api{t, v, web.URL}
}

// ask asks the API with a token, and with the proof of a key if there is one.
func (a *api) ask(token string, key *authztest.Key) *http.Response {
	a.t.Helper()
	r := request(a.t, "GET", a.url, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if key != nil {
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", key.Proof("GET", authztest.Audience+"/", map[string]any{"ath": authztest.ATH(token)}))
	}
	resp, err := http.DefaultClient.Do(r)
	check(a.t, err)
	resp.Body.Close()
	return resp
}

// answers asks the API with a bearer token.
func (a *api) answers(token string) int {
	a.t.Helper()
	return a.ask(token, nil).StatusCode
}

// refusesWithin asks until the API refuses the token as revoked, and says
// whether that took no longer than a second.
func (a *api) refusesWithin(token string) bool {
	a.t.Helper()
	return a.refusesBound(token, nil)
}

// refusesBound is refusesWithin for a token that is bound to a key, which is
// proven each time.
func (a *api) refusesBound(token string, key *authztest.Key) bool {
	a.t.Helper()
	for began := time.Now(); time.Since(began) < time.Second; {
		if a.ask(token, key).StatusCode == http.StatusUnauthorized {
			return true
		}
	}
	return false
}

// settles waits until what the API answers to a token is no longer that it
// can't tell: its clock, or the server's, has moved past what it heard last.
func (a *api) settles(token string) int {
	a.t.Helper()
	for began := time.Now(); ; {
		if got := a.answers(token); got != http.StatusServiceUnavailable || time.Since(began) > 20*time.Second {
			return got
		}
	}
}

// twoServers starts two servers, each with its own view of one file, behind a
// proxy.
func twoServers(t *testing.T, options ...func(*authz.Config)) (s *authztest.Server, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "solegate.db")
	return pair(t, func() (storage.Store, error) { return sqlite.Open(t.Context(), sqlite.Config{Path: path}) }, options), path
}

// twoServersOnRedis is twoServers for a Redis.
func twoServersOnRedis(t *testing.T, options ...func(*authz.Config)) *authztest.Server {
	t.Helper()
	at := "redis://" + redistest.Single(t).Addr
	return pair(t, func() (storage.Store, error) { return redis.Open(t.Context(), redis.Config{URL: at}) }, options)
}

// onEachStore tries an attack at two servers on one file, and at two on one
// Redis.
func onEachStore(t *testing.T, try func(*testing.T, *authztest.Server), options ...func(*authz.Config)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		s, _ := twoServers(t, options...)
		try(t, s)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		try(t, twoServersOnRedis(t, options...))
	})
}

func pair(t *testing.T, open func() (storage.Store, error), options []func(*authz.Config)) *authztest.Server {
	t.Helper()
	var stores []storage.Store
	for range 2 {
		store, err := open()
		check(t, err)
		t.Cleanup(func() { store.Close() })
		stores = append(stores, store)
	}
	s, all := authztest.NewReplicas(t, stores, []time.Duration{0, time.Second}, options...)
	for _, r := range all {
		serve(t, r)
	}
	return s
}
