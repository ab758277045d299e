// Package authz is the authorization server: one [http.Handler] made from a
// [Config], with a file per endpoint.
//
// Start reading at authorize.go: the order of its checks is a table. Every
// answer to the network goes through errors.go, where whatever is not an
// [oauth.Error] becomes silence.
package authz

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/backchannel"
	"github.com/solegate/solegate/authz/feed"
	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/pages"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/authz/statuslist"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// Server is the authorization server. It is safe for concurrent use and keeps
// no state that matters: any number of servers share one store.
type Server struct {
	Config
	mux      *http.ServeMux
	log      *slog.Logger
	audit    *audit.Log
	login    *login.Login
	pages    *pages.Pages
	provider *provider.Provider
	revoker  *revocation.Revoker
	judge    *abuse.Judge
	feed     *feed.Hub
	lists    *statuslist.Lists // nil without StatusList, and so is statuses
	statuses *statuslist.Publisher
	logouts  *backchannel.Sender
	admin    *admin.API
	turns    admin.Turns              // of operators
	nonces   *dpop.Nonces             // the same at every server of the store
	recent   recent                   // clients that asked for tokens a moment ago
	metadata document                 // prepared
	keySet   atomic.Pointer[document] // the key set, prepared when it changes
}

// New returns a Server. The error says which field is wrong and how to mend
// it.
func New(_ context.Context, c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Server{Config: c, log: c.Log, audit: c.Audit, pages: pages.New()}
	queue := backchannel.NewQueue(c.Store, c.Log, c.Now)
	s.revoker = revocation.New(revocation.Config{Store: c.Store, Audit: s.audit, TokenLife: c.Lifetimes.AccessToken, Notify: queue, NoStatusList: !c.StatusList, Now: c.Now, Rand: c.Rand})
	if c.StatusList {
		s.lists = statuslist.New(statuslist.Config{Issuer: c.Issuer, Key: c.Ring.Secret("status lists"), Rand: c.Rand})
	}
	var err error
	if s.logouts, err = backchannel.NewSender(backchannel.Config{
		Issuer: c.Issuer, Development: c.Development, Networks: c.LogoutNetworks,
		Store: c.Store, Queue: queue, Sign: c.Ring.Sign, Audit: s.audit, Log: c.Log, Now: c.Now, Rand: c.Rand,
	}); err != nil {
		return nil, err
	}
	s.judge = abuse.New(abuse.Config{Store: c.Store, Revoker: s.revoker, Audit: s.audit, Policy: c.Abuse, Log: c.Log, Now: c.Now})
	s.nonces = dpop.NewNonces(c.Ring.Secret("DPoP nonces"))
	hasher, err := password.New(c.Password, c.Rand)
	if err != nil {
		return nil, err
	}
	if s.login, err = login.New(login.Config{
		Issuer: c.Issuer, Development: c.Development, Store: c.Store,
		Seal: c.Ring.Seal, Unseal: c.Ring.Unseal, Secret: c.Ring.Secret,
		Revoker: s.revoker, Hasher: hasher, Pages: s.pages, Audit: s.audit, Log: c.Log, Now: c.Now, Rand: c.Rand,
		SessionIdle: c.Lifetimes.SessionIdle, SessionLife: c.Lifetimes.SessionLife, Life: c.Lifetimes.Login,
		SuspendedNotice: c.SuspendedNotice, BindAddress: c.BindLoginToAddress, Address: s.address, RequestID: s.requestID,
	}); err != nil {
		return nil, err
	}
	if s.provider, err = provider.New(provider.Config{
		Issuer: c.Issuer, Grants: c.Store, Ring: c.Ring, Revoker: s.revoker, Lists: s.lists,
		AccessTokenAlg: c.AccessTokenAlg,
		AccessToken:    c.Lifetimes.AccessToken, IDToken: c.Lifetimes.IDToken, Code: c.Lifetimes.Code,
		RefreshIdle: c.Lifetimes.RefreshIdle, RefreshLife: c.Lifetimes.RefreshLife, RefreshGrace: c.Lifetimes.RefreshGrace,
		Now: c.Now, Rand: c.Rand,
	}); err != nil {
		return nil, err
	}
	sign := func(typ string, claims []byte) (string, error) { return c.Ring.Sign(c.AccessTokenAlg, typ, claims) }
	following := feed.Config{
		Issuer: c.Issuer, Store: c.Store, Heartbeat: c.FeedHeartbeat, Log: c.Log, Now: c.Now,
		Sign: sign, Signer: func() string { return c.Ring.Signer(c.AccessTokenAlg) }, Reload: c.Ring.Reload,
	}
	if s.lists != nil {
		following.Status = s.lists
	}
	if s.feed, err = feed.New(following); err != nil {
		return nil, err
	}
	if s.lists != nil {
		if s.statuses, err = statuslist.NewPublisher(s.lists, s.feed, sign, c.Now); err != nil {
			return nil, err
		}
	}
	s.admin = admin.New(admin.Config{
		Issuer: c.Issuer, Store: c.Store, Ring: c.Ring, Revoker: s.revoker, Judge: s.judge,
		UserName: login.NormalizeName, RequestID: s.requestID, Log: c.Log, Now: c.Now,
	})
	s.metadata = s.prepareMetadata()
	s.routes()
	return s, nil
}

func (s *Server) routes() {
	m := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) { m.HandleFunc(pattern, h) }

	handle("GET /authorize", s.authorize)
	handle("POST /authorize", s.authorize)
	handle("GET /login", s.login.ServeLogin)
	handle("POST /login", s.login.ServeLogin)
	handle("GET /consent", s.login.ServeConsent)
	handle("POST /consent", s.login.ServeConsent)
	handle("GET /logout", s.logout)
	handle("POST /logout", s.logout)
	handle("POST /logout/confirm", s.confirmLogout)
	handle("GET /logout/done", s.loggedOut)

	handle("POST /token", s.token)
	handle("OPTIONS /token", s.preflight)
	handle("POST /par", s.par)
	handle("OPTIONS /par", s.preflight)
	handle("POST /revoke", s.revoke)
	handle("OPTIONS /revoke", s.preflight)
	handle("GET /userinfo", s.userinfo)
	handle("POST /userinfo", s.userinfo)
	handle("OPTIONS /userinfo", s.preflight)
	handle("POST /introspect", s.introspect)
	handle("POST "+reports.Path, s.reports)
	handle("GET /feed", s.feedStream)
	handle("POST /feed", s.feedStream)
	handle("GET /feed/snapshot", s.feedSnapshot)
	handle("POST /feed/snapshot", s.feedSnapshot)
	if s.statuses != nil {
		handle("GET "+statuslist.Path+"{list}", s.statusList)
		handle("OPTIONS "+statuslist.Path+"{list}", s.preflightPublic)
	}

	if s.Admin {
		handle(admin.Path, s.administer)
		handle(admin.Path+"/", s.administer)
	}

	handle("GET /.well-known/openid-configuration", s.serveMetadata)
	handle("GET /.well-known/oauth-authorization-server", s.serveMetadata)
	handle("GET /jwks", s.jwks)
	handle("OPTIONS /.well-known/", s.preflightPublic)
	handle("OPTIONS /jwks", s.preflightPublic)

	handle("GET /livez", func(w http.ResponseWriter, _ *http.Request) { s.status(w, http.StatusOK, "ok") })
	handle("GET /readyz", s.ready)
	m.Handle("GET "+pages.AssetPath, s.pages)
	handle("GET /{$}", s.index)
	s.mux = m
}

// ServeHTTP serves every endpoint.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The documents that every API asks for take the short way.
	if r.Method == http.MethodGet && r.URL.RawQuery == "" {
		switch r.URL.Path {
		case "/jwks":
			s.jwks(w, r)
			return
		case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server":
			s.serveMetadata(w, r)
			return
		}
	}
	// The multiplexer would redirect to the clean path by 307, and with it the
	// password that is in the body (RFC 9700 §4.12).
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path && clean+"/" != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Run does the work between requests until ctx ends: it keeps the key ring's
// schedule, sweeps what has expired, delivers logout tokens, does what the
// policy decided and another server died over, and follows the store for the
// revocation feed, whose streams end with it. It seals the audit log, and closes
// it when all else has ended: call it after the last request. It returns ctx's
// error.
func (s *Server) Run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { s.Ring.Run(ctx) })
	work.Go(func() { s.sweep(ctx) })
	work.Go(func() { s.feed.Run(ctx) })
	work.Go(func() { s.logouts.Run(ctx) })
	work.Go(func() { s.judge.Run(ctx) })
	auditing, done := context.WithCancel(context.WithoutCancel(ctx))
	var last sync.WaitGroup
	last.Go(func() { s.audit.Run(auditing) })
	work.Wait()
	done()
	last.Wait()
	return ctx.Err()
}

// EndStreams ends the streams of the revocation feed and of the operator's API,
// which would go on for ever. Call it when the server shuts down, so that it
// need not wait for them (http.Server.RegisterOnShutdown).
func (s *Server) EndStreams() {
	s.feed.End()
	s.admin.EndStreams()
}

// client returns an enabled client that this server serves. The error is an
// [*oauth.Error].
func (s *Server) client(ctx context.Context, id clients.ID) (clients.Client, error) {
	const description = "The client is unknown or disabled."
	if id == "" {
		return clients.Client{}, oauth.Errorf(oauth.InvalidRequest, "The client_id is missing.", "no client_id")
	}
	c, err := s.Store.Client(ctx, id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return clients.Client{}, oauth.Errorf(oauth.InvalidClient, description, "no client %.64q", id)
	case err != nil:
		return clients.Client{}, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	case c.Disabled:
		return clients.Client{}, oauth.Errorf(oauth.InvalidClient, description, "client %s is disabled; enable it with: solegate client enable %s", id, id)
	case c.Development && !s.Development:
		return clients.Client{}, oauth.Errorf(oauth.InvalidClient, description, "client %s is registered for development, the server is not in development mode", id)
	}
	return c, nil
}

// complete fills in the defaults and refuses what can't be safe.
func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Audit == nil {
		c.Audit = audit.New(audit.Config{Log: c.Log})
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	var errs []error
	if c.Store == nil || c.Ring == nil {
		errs = append(errs, errors.New("authz: Store and Ring are required"))
	}
	for _, p := range c.Problems() {
		errs = append(errs, fmt.Errorf("authz: %s: %s", p.Setting, p.Text))
	}
	return errors.Join(errs...)
}

// maxNotice bounds [Config.SuspendedNotice].
const maxNotice = 500

// Problem is a setting that can't be: its name as in the configuration file,
// and what is wrong with what to do.
type Problem struct{ Setting, Text string }

// Problems fills in the defaults of the settings that are zero and returns
// every one that can't be served safely.
func (c *Config) Problems() []Problem {
	var problems []Problem
	if c.AccessTokenAlg == "" {
		c.AccessTokenAlg = keys.ES256
	}
	if a := c.AccessTokenAlg; a != keys.ES256 && a != keys.RS256 && a != keys.EdDSA {
		problems = append(problems, Problem{"access_token_alg", fmt.Sprintf("%q is not one of ES256, RS256, EdDSA", a)})
	}
	if text := checkIssuer(c.Issuer, c.Development); text != "" {
		problems = append(problems, Problem{"issuer", text})
	}
	if c.FeedHeartbeat < 0 || c.FeedHeartbeat > time.Minute {
		problems = append(problems, Problem{"feed_heartbeat", fmt.Sprintf("%s is not between 1s and 1m", c.FeedHeartbeat)})
	}
	problems = append(problems, c.adminProblems()...)
	c.SuspendedNotice = strings.TrimSpace(c.SuspendedNotice)
	if c.SuspendedNotice == "" {
		c.SuspendedNotice = "This account is suspended because of how it was used. If you think that is a mistake, ask the people who run this service."
	}
	if n := c.SuspendedNotice; !utf8.ValidString(n) || utf8.RuneCountInString(n) > maxNotice || strings.ContainsFunc(n, func(r rune) bool { return !unicode.IsPrint(r) }) {
		problems = append(problems, Problem{"abuse.notice", fmt.Sprintf("a line of at most %d printable characters is expected", maxNotice)})
	}
	for _, p := range c.Abuse.Problems() {
		problems = append(problems, Problem{"abuse." + p.Setting, p.Text})
	}
	l := &c.Lifetimes
	for _, d := range []struct {
		name           string
		value          *time.Duration
		preset, atMost time.Duration
	}{
		{"access_token", &l.AccessToken, 5 * time.Minute, time.Hour},
		{"id_token", &l.IDToken, 5 * time.Minute, time.Hour},
		{"code", &l.Code, time.Minute, time.Minute},
		{"refresh_idle", &l.RefreshIdle, 24 * time.Hour, 90 * 24 * time.Hour},
		{"refresh_life", &l.RefreshLife, 7 * 24 * time.Hour, 365 * 24 * time.Hour},
		{"refresh_grace", &l.RefreshGrace, 10 * time.Second, time.Minute},
		{"session_idle", &l.SessionIdle, 24 * time.Hour, 90 * 24 * time.Hour},
		{"session_life", &l.SessionLife, 7 * 24 * time.Hour, 365 * 24 * time.Hour},
		{"login", &l.Login, 10 * time.Minute, time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.preset
		}
		if *d.value < time.Second || *d.value > d.atMost {
			problems = append(problems, Problem{"lifetimes." + d.name, fmt.Sprintf("%s is not between 1s and %s", *d.value, d.atMost)})
		}
	}
	for _, n := range c.LogoutNetworks {
		if !n.IsValid() || n.Bits() == 0 {
			problems = append(problems, Problem{"backchannel_logout.allow_networks", fmt.Sprintf("%s is every address: name the networks where receivers of logout tokens are", n)})
		}
	}
	return problems
}

// checkIssuer says what is wrong with an issuer that tokens and cookies could
// not be bound to (RFC 8414 §2), or nothing.
func checkIssuer(issuer string, development bool) string {
	u, err := url.Parse(issuer)
	switch {
	case issuer == "":
		return "it is missing: set it to the server's public origin, such as https://login.example.com"
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Sprintf("%q is not a URL: set it to the server's public origin, such as https://login.example.com", issuer)
	case u.Scheme+"://"+u.Host != issuer || u.Host != strings.ToLower(u.Host):
		return fmt.Sprintf("%q must be an origin alone: lower case, no path, no trailing slash, no query", issuer)
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && development && isLoopback(u.Hostname()):
		return ""
	case u.Scheme == "http" && development:
		return fmt.Sprintf("%q: development mode allows http on loopback only (127.0.0.1, [::1], localhost)", issuer)
	}
	return fmt.Sprintf("%q must be https; to try things out on this machine, turn on development mode", issuer)
}

func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// randomText returns n random bytes in base64url.
func (s *Server) randomText(n int) string {
	b := make([]byte, n)
	if _, err := s.Rand.Read(b); err != nil {
		panic(err) // without randomness nothing here is safe
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
