// Package authztest starts a whole authorization server on loopback, with a
// clock that only moves when it is told to:
//
//	s := authztest.New(t)
//	tokens := s.SignIn("alice")
//
// The store is a real SQLite file, or whatever a test brings; the requests are
// real HTTP.
package authztest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/backchannel"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// Audience is the API's.
const Audience = "https://api.example.com"

// Password is every test user's.
const Password = "seven green otters sing at dusk"

// Server is a running authorization server and what is behind it.
type Server struct {
	TB       testing.TB
	URL      string // the issuer
	Address  string // where this server is reached: the issuer, but for a replica
	Handler  *authz.Server
	Store    storage.Store
	Ring     *keys.Ring
	Clock    *Clock
	Client   clients.Client // the one SPA
	Revoker  *revocation.Revoker
	Log      *Log
	Path     string        // of the SQLite file
	Skew     time.Duration // how far this server's clock is ahead of Clock
	Password *password.Hasher
	Audit    *audit.Log
	// Turns is how many requests the proxy of NewReplicas has sent on: the next
	// one goes to the replica of that number, counted round.
	Turns *atomic.Int64

	key *Key // that the app proves, or nil
}

// Log is what the server logged.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Quick is a hashing cost for tests.
var Quick = password.Params{Memory: 64, Time: 1, Threads: 1, Concurrent: 4, Queue: 64}

// MasterKey is the test servers' master key.
const MasterKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

// New starts a server with one client (id "spa") and the user alice. The
// options change its configuration before it starts.
func New(tb testing.TB, options ...func(*authz.Config)) *Server {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "solegate.db")
	store, err := sqlite.Open(tb.Context(), sqlite.Config{Path: path})
	check(tb, err)
	tb.Cleanup(func() { store.Close() })
	s := &Server{TB: tb, Store: store, Path: path, Log: &Log{}, Clock: newClock()}
	s.start(options)
	s.populate()
	return s
}

// NewReplicas starts a server for each store, all of the same data, behind a
// proxy that sends each request to the next one. Their clocks are ahead of
// Clock by the skews. The Server that it returns is reached through the proxy
// and otherwise is the first of them. The options change the configuration of
// each.
func NewReplicas(tb testing.TB, stores []storage.Store, skews []time.Duration, options ...func(*authz.Config)) (*Server, []*Server) {
	tb.Helper()
	turns := &atomic.Int64{}
	targets := make([]http.Handler, len(stores))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		targets[(turns.Add(1)-1)%int64(len(targets))].ServeHTTP(w, r)
	}))
	tb.Cleanup(web.Close)
	log, clock := &Log{}, newClock()
	replicas := make([]*Server, len(stores))
	for i, store := range stores {
		s := &Server{TB: tb, URL: web.URL, Store: store, Log: log, Clock: clock, Skew: skews[i]}
		s.start(options)
		at, err := url.Parse(s.Address)
		check(tb, err)
		targets[i] = httputil.NewSingleHostReverseProxy(at) // it leaves Host as it is
		replicas[i] = s
	}
	front := *replicas[0]
	front.Address, front.Turns = web.URL, turns
	front.populate()
	return &front, replicas
}

// now is the time by this server's clock.
func (s *Server) now() time.Time { return s.Clock.Now().Add(s.Skew) }

// populate registers the client and alice.
func (s *Server) populate() {
	s.TB.Helper()
	tb := s.TB
	s.Client = clients.Client{
		ID: "spa", Name: "Orders", Development: true,
		RedirectURIs:           []clients.RedirectURI{"https://spa.example.com/callback"},
		PostLogoutRedirectURIs: []clients.RedirectURI{"https://spa.example.com/"},
		Origins:                []clients.Origin{"https://spa.example.com"},
		Audiences:              []string{Audience, "https://reports.example.com"},
		Scopes:                 []string{"openid", "profile", "email", "offline_access", "notes:read", "notes:write"},
		CreatedAt:              s.Clock.Now(),
	}
	_, err := s.Client.Validate(true)
	check(tb, err)
	check(tb, s.Store.CreateClient(tb.Context(), s.Client))
	s.AddUser("alice")
	s.Clock.Advance(time.Second)
}

// Replica starts another server on the same store, with the same clock.
func (s *Server) Replica(options ...func(*authz.Config)) *Server {
	replica := *s
	replica.start(options)
	return &replica
}

func (s *Server) start(options []func(*authz.Config)) {
	tb := s.TB
	master, err := keys.ParseMaster([]byte(MasterKey))
	check(tb, err)
	s.Ring, err = keys.Open(tb.Context(), keys.Config{Store: s.Store, Master: master, Now: s.now})
	check(tb, err)
	log := slog.New(slog.NewJSONHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	// An operator's, beside the server: it adds to the same queue.
	s.Revoker = operator(s.Store, log, s.now)
	s.Password, err = password.New(Quick, nil)
	check(tb, err)

	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	tb.Cleanup(web.Close)
	s.Address = web.URL
	if s.URL == "" {
		s.URL = web.URL
	}
	c := authz.Config{
		Issuer: s.URL, Development: true, Store: s.Store, Ring: s.Ring, Password: Quick,
		Log: log, Now: s.now, Audit: audit.New(audit.Config{Log: log, Store: s.Store, Keep: 90 * 24 * time.Hour, Secret: s.Ring.Secret, Now: s.now}),
	}
	for _, option := range options {
		option(&c)
	}
	s.Handler, err = authz.New(tb.Context(), c)
	check(tb, err)
	handler = s.Handler
	s.Audit = c.Audit
	tb.Cleanup(func() { // before the store is closed; a test may have broken it
		ending, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Second)
		defer cancel()
		s.Audit.Close(ending)
	})
}

// Operator returns what the command line ends things with, in another process
// than the server.
func Operator(store storage.Store, now func() time.Time) *revocation.Revoker {
	return operator(store, slog.New(slog.DiscardHandler), now)
}

func operator(store storage.Store, log *slog.Logger, now func() time.Time) *revocation.Revoker {
	return revocation.New(revocation.Config{Store: store, Audit: audit.New(audit.Config{Log: log}), TokenLife: 5 * time.Minute, Now: now, Notify: backchannel.NewQueue(store, log, now)})
}

// Audited returns the text of all lines of the audit log that are in the store.
func (s *Server) Audited() string {
	s.TB.Helper()
	ctx := s.TB.Context()
	check(s.TB, s.Audit.Write(ctx, audit.Event{What: "read by a test"})) // with it all before it are kept
	var b strings.Builder
	for after := uint64(0); ; {
		lines, err := s.Store.AuditLines(ctx, after, 1000)
		check(s.TB, err)
		if len(lines) == 0 {
			return b.String()
		}
		for _, l := range lines {
			after = l.Seq
			b.Write(l.Body)
			b.WriteByte('\n')
		}
	}
}

// AddUser makes an account with Password and returns it.
func (s *Server) AddUser(name string) storage.User {
	s.TB.Helper()
	id, err := clients.NewID(rand.Reader)
	check(s.TB, err)
	encoded, err := s.Password.Hash(s.TB.Context(), Password)
	check(s.TB, err)
	u := storage.User{
		ID: storage.UserID(id), Name: name, Password: encoded, DisplayName: strings.ToUpper(name[:1]) + name[1:],
		Email: name + "@example.com", EmailVerified: true, CreatedAt: s.Clock.Now(), UpdatedAt: s.Clock.Now(),
	}
	check(s.TB, s.Store.CreateUser(s.TB.Context(), u))
	return u
}

// User returns an account by its name.
func (s *Server) User(name string) storage.User {
	s.TB.Helper()
	u, err := s.Store.UserByName(s.TB.Context(), name)
	check(s.TB, err)
	return u
}

// Tokens is the answer of the token endpoint, an error as well.
type Tokens struct {
	Status       int
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
	Header       http.Header
}

// Verifier is a PKCE verifier, and Challenge its S256 challenge.
const Verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// Challenge returns the S256 challenge of a verifier (RFC 7636 §4.2).
func Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Authorization returns the parameters of a good authorization request. The
// changes are pairs of name and value; an empty value removes the parameter.
func (s *Server) Authorization(changes ...string) url.Values {
	q := url.Values{
		"response_type": {"code"}, "client_id": {"spa"}, "redirect_uri": {"https://spa.example.com/callback"},
		"scope": {"openid profile email offline_access notes:read"}, "state": {"af0ifjsldkj"}, "nonce": {"n-0S6_WzA2Mj"},
		"code_challenge": {Challenge(Verifier)}, "code_challenge_method": {"S256"},
	}
	change(q, changes)
	return q
}

func change(q url.Values, changes []string) {
	for i := 0; i < len(changes); i += 2 {
		q.Del(changes[i])
		if changes[i+1] != "" {
			q.Set(changes[i], changes[i+1])
		}
	}
}

// Redeem sends a code to the token endpoint, as the SPA would; the changes are
// pairs of name and value.
func (s *Server) Redeem(code string, changes ...string) Tokens {
	s.TB.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"spa"}, "code": {code},
		"redirect_uri": {"https://spa.example.com/callback"}, "code_verifier": {Verifier},
	}
	change(form, changes)
	return s.PostForm("/token", form)
}

// Refresh sends a refresh token to the token endpoint, as the SPA would.
func (s *Server) Refresh(token string, changes ...string) Tokens {
	s.TB.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {token}}
	change(form, changes)
	return s.PostForm("/token", form)
}

// PostForm posts a form as the SPA's page would and decodes the JSON answer.
func (s *Server) PostForm(path string, form url.Values) Tokens {
	s.TB.Helper()
	resp, body := s.post(path, form)
	t := Tokens{Status: resp.StatusCode, Header: resp.Header}
	if err := json.Unmarshal(body, &t); err != nil {
		s.TB.Fatalf("%s answered %d %q: JSON expected", path, resp.StatusCode, body)
	}
	return t
}

// Do sends a request to one of the endpoints that answer with JSON.
func (s *Server) Do(r *http.Request) Tokens {
	s.TB.Helper()
	resp, err := http.DefaultClient.Do(r)
	check(s.TB, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(s.TB, err)
	t := Tokens{Status: resp.StatusCode, Header: resp.Header}
	if err := json.Unmarshal(body, &t); err != nil {
		s.TB.Fatalf("%s answered %d %q: JSON expected", r.URL.Path, resp.StatusCode, body)
	}
	return t
}

// Body sends a request and returns the answer's body.
func (s *Server) Body(r *http.Request) string {
	s.TB.Helper()
	resp, err := http.DefaultClient.Do(r)
	check(s.TB, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(s.TB, err)
	return string(body)
}

// post posts a form as the SPA's page would, with a proof if it has a key.
func (s *Server) post(path string, form url.Values) (*http.Response, []byte) {
	s.TB.Helper()
	nonce := ""
	for {
		r, err := http.NewRequestWithContext(s.TB.Context(), "POST", s.Address+path, strings.NewReader(form.Encode()))
		check(s.TB, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://spa.example.com")
		s.prove(r, nonce)
		resp, err := http.DefaultClient.Do(r)
		check(s.TB, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		check(s.TB, err)
		told := resp.Header.Get("DPoP-Nonce")
		if s.key == nil || nonce != "" || told == "" || !bytes.Contains(body, []byte(`"use_dpop_nonce"`)) {
			return resp, body
		}
		nonce = told
	}
}

// SignIn logs the user in, in a new browser, and redeems the code.
func (s *Server) SignIn(name string, changes ...string) Tokens {
	s.TB.Helper()
	t := s.Redeem(s.Browser().Code(name, changes...))
	if t.Status != http.StatusOK {
		s.TB.Fatalf("token endpoint answered %d %s: %s", t.Status, t.Error, t.Description)
	}
	return t
}

// UserInfo asks the userinfo endpoint with an access token and returns the
// status: 200 while the token's grant lives.
func (s *Server) UserInfo(token string) int {
	s.TB.Helper()
	r, err := http.NewRequestWithContext(s.TB.Context(), "GET", s.Address+"/userinfo", nil)
	check(s.TB, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	check(s.TB, err)
	resp.Body.Close()
	return resp.StatusCode
}

// Claims decodes the payload of a JWT without verifying it.
func Claims(tb testing.TB, token string) map[string]any {
	tb.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		tb.Fatalf("%q is no JWT", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(tb, err)
	var claims map[string]any
	check(tb, json.Unmarshal(payload, &claims))
	return claims
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
