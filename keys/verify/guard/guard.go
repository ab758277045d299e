// Package guard stands in front of an API that is not written in Go: it checks
// each request as package verify does, and passes on the good ones with the
// identity in headers that a client can't forge. The command solegate guard
// runs it.
//
//	g, err := guard.New(ctx, guard.Config{
//		Verify:   verify.Config{Issuer: "https://login.example.com", Audience: "https://api.example.com"},
//		Upstream: "http://127.0.0.1:3000",
//		Routes:   []guard.Route{{Pattern: "GET /orders", Scopes: []string{"orders:read"}}},
//	})
//	server := &http.Server{Handler: g}
//
// With [Config].Upstream it is a reverse proxy. With [Config].ForwardAuth it
// answers a proxy that asks for each request whether it may pass: nginx, Caddy,
// Traefik, Envoy.
//
// # What is promised
//
// No request reaches the upstream that did not pass, but on a route that is
// [Route].Public. What no route names is refused. The upstream sees the path
// that the route was found by: a path with a second spelling is refused (see
// [Route]). It sees no header that is the guard's to set, however a client
// writes it. It must listen where nobody else can reach it: on loopback or in a
// private network.
//
// # What the upstream gets
//
// The headers X-Solegate-Subject, -Client, -Scope, -Session, -Grant, -ACR and
// -Auth-Time (in Unix seconds), of the token that passed; what the token does
// not say is left out. On a public route there are none of them. X-Forwarded-For
// is the one address that the request comes from, X-Forwarded-Proto and -Host
// are of [verify.Config].PublicURL; without one there is no -Host, and -Proto
// is of the connection. Host is the upstream's own. Authorization
// and DPoP are taken away. A header whose name has anything but letters, digits
// and dashes is dropped, as nginx does: many frameworks can't tell
// X_Solegate_Subject from X-Solegate-Subject.
//
// # What lives longer than its check
//
// A WebSocket is checked when it opens, and closed when its token expires. An
// event stream (text/event-stream) ends then, too. With [verify.Config].Feed both
// also end as soon as their token would be refused, within a second of what
// revokes it: none of them is looked at again and again for that. Any other
// request, however long it takes, is finished.
//
// # What it can't do
//
// An upstream that takes the method from a form field (_method) must be told
// not to: the guard does not read bodies. A page can't give a WebSocket an
// Authorization header; programs can.
package guard

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// Config says what is guarded. Verify, Routes and one of Upstream and
// ForwardAuth are required.
type Config struct {
	// Verify is whose tokens pass, and all that package verify can be told.
	// If its Scopes are empty, Metadata lists those of the routes. If it has
	// Origins, the guard answers preflight requests itself, and the
	// upstream's own CORS headers are replaced.
	Verify verify.Config

	// Routes are what there is. What none of them names is refused.
	Routes []Route

	// Limits are how much each account, or each app, may ask for. Who asks for
	// more is answered 429 with Retry-After and the RateLimit fields; see
	// [verify.Verifier.Limit]. Those of one route come before those of all.
	Limits []Limit

	// Upstream is the API: http://, h2c:// (HTTP/2 without TLS) or https://,
	// a host and a port. It has no path: what was checked is what it sees.
	Upstream string

	// ForwardAuth, in place of Upstream, answers a proxy's questions.
	ForwardAuth ForwardAuth

	// TrustedProxies are the networks of the proxies in front: only they may
	// say, in X-Forwarded-For, where a request comes from. With ForwardAuth
	// only they may ask; none then means loopback.
	TrustedProxies []netip.Prefix

	// PassAuthorization leaves Authorization and DPoP in what the upstream
	// gets. Who sees them there can use a bearer token until it expires.
	PassAuthorization bool

	// Timeout is how long the upstream may take until it begins to answer, and
	// how long a client may pause while it sends a body or takes an answer: a
	// minute if zero. A stream that is silent is no pause of the client's.
	Timeout time.Duration

	// UpstreamTLS is for an https upstream with a private CA, or one that asks
	// for a client certificate. Nil means the system's CAs and none.
	UpstreamTLS *tls.Config
}

// Problem is a setting that can't be: its field, such as Routes[1], and what is
// wrong with what to do.
type Problem struct{ Field, Text string }

// Problems returns all that New would refuse, but for what only the network
// tells.
func (c *Config) Problems() []Problem {
	var list []Problem
	add := func(field string, err error) {
		if err != nil {
			list = append(list, Problem{field, err.Error()})
		}
	}
	add("Verify", c.Verify.Validate())
	switch {
	case c.Upstream == "" && c.ForwardAuth == "":
		add("Upstream", errors.New("it is missing: the API's address, such as http://127.0.0.1:3000, is expected; or ForwardAuth"))
	case c.Upstream != "" && c.ForwardAuth != "":
		add("ForwardAuth", errors.New("it is set beside Upstream: set one of them"))
	}
	if c.Upstream != "" {
		_, _, err := upstream(c.Upstream)
		add("Upstream", err)
	}
	if c.ForwardAuth != "" && !slices.Contains(forwardAuths, c.ForwardAuth) {
		add("ForwardAuth", fmt.Errorf("%q: one of %q is expected", c.ForwardAuth, forwardAuths))
	}
	if c.Timeout < 0 {
		add("Timeout", fmt.Errorf("it is %s: more than none is expected", c.Timeout))
	}
	if len(c.Routes) == 0 {
		add("Routes", errors.New("there are none, and what no route names is refused: write one, such as GET /orders=orders:read"))
	}
	_, problems := newTable(c.Routes)
	_, limits := c.limits()
	return slices.Concat(list, problems, limits)
}

// Guard checks requests. It is an [http.Handler], safe for concurrent use.
type Guard struct {
	config  Config
	verify  *verify.Verifier
	routes  *table
	proxy   http.Handler // nil with ForwardAuth
	handler http.Handler
	done    context.Context // ended: what lives on is closed
}

// New returns a Guard and fetches the issuer's keys, as [verify.New] does. Its
// work ends with ctx, and with it each WebSocket and each event stream, for which
// [http.Server.Shutdown] would not wait, or for ever.
func New(ctx context.Context, c Config) (*Guard, error) {
	var errs []error
	for _, p := range c.Problems() {
		errs = append(errs, fmt.Errorf("guard: %s: %s", p.Field, p.Text))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.ForwardAuth != "" && len(c.TrustedProxies) == 0 {
		c.TrustedProxies = loopback
	}
	if c.Verify.Log == nil {
		c.Verify.Log = slog.New(slog.DiscardHandler)
	}
	if c.Verify.Now == nil {
		c.Verify.Now = time.Now
	}
	if len(c.Verify.Scopes) == 0 {
		c.Verify.Scopes = scopesOf(c.Routes)
	}
	c.Limits, _ = c.limits()
	g := &Guard{done: ctx}
	if c.Verify.Reports != nil && c.Verify.Reports.Address == nil {
		c.Verify.Reports = &verify.Reports{Address: g.address}
	}
	g.config = c
	var err error
	if g.verify, err = verify.New(ctx, c.Verify); err != nil {
		return nil, err
	}
	g.routes, _ = newTable(c.Routes)
	pass := http.HandlerFunc(g.pass)
	if c.ForwardAuth != "" {
		g.handler = http.HandlerFunc(g.asked)
		pass = g.allow
	} else {
		if g.proxy, err = g.newProxy(); err != nil {
			return nil, err
		}
		g.handler = g.cors(http.HandlerFunc(g.direct))
	}
	// The middleware of package verify, as an API in Go has it: what it learns
	// to check is checked here, too.
	for _, rt := range g.routes.list {
		rt.handler = pass
		if rt.Public {
			continue
		}
		if rt.fresh() {
			rt.handler = g.verify.RequireLogin(rt.Login)(rt.handler)
		}
		// Outside of RequireLogin: who is sent to log in has asked, too. Those
		// of the route are the outer ones: what they refuse is not taken from
		// what there is for all routes.
		for _, of := range []string{"", rt.Pattern} {
			for _, l := range slices.Backward(c.Limits) {
				if l.Route == of {
					rt.handler = g.verify.Limit(l.Limit)(rt.handler)
				}
			}
		}
		rt.handler = g.verify.Require(rt.Scopes...)(rt.handler)
	}
	return g, nil
}

// Ready returns nil when requests can be checked, or why not.
func (g *Guard) Ready() error { return g.verify.Ready() }

// Verifier is what checks the tokens, for its counters: FeedState, LimitStats
// and ReportStats.
func (g *Guard) Verifier() *verify.Verifier { return g.verify }

// Close sends the reports that are waiting; see [verify.Verifier.Close].
func (g *Guard) Close(ctx context.Context) error { return g.verify.Close(ctx) }

// ServeHTTP implements [http.Handler].
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// cors lets the pages of Origins read answers. Without Origins all of CORS is
// the upstream's.
func (g *Guard) cors(next http.Handler) http.Handler {
	if len(g.config.Verify.Origins) == 0 {
		return next
	}
	return g.verify.CORS(next)
}

// direct takes a request that came from a client, or through proxies.
func (g *Guard) direct(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == g.verify.MetadataPath() && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		g.verify.Metadata().ServeHTTP(w, r)
		return
	}
	g.check(w, r)
}

// check finds the request's route, whose handler checks the rest.
func (g *Guard) check(w http.ResponseWriter, r *http.Request) {
	if err := sensible(r); err != nil {
		g.refuse(w, r, http.StatusBadRequest, "invalid_request", "The method or the path is not in the form that is expected here.", err)
		return
	}
	rt, err := g.routes.find(r.Method, r.URL.Path)
	if err != nil {
		g.refuse(w, r, http.StatusNotFound, "not_found", "There is nothing here for this method and path.", err)
		return
	}
	rt.handler.ServeHTTP(w, r)
}

// refuse answers a request that no token could help. The cause is for the log.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, status int, code, description string, cause error) {
	g.config.Verify.Log.InfoContext(r.Context(), "request refused", "path", r.URL.Path, "error", code, "cause", cause)
	answer(w, status, code, description)
}

func answer(w http.ResponseWriter, status int, code, description string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
}
