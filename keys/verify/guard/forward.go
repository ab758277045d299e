package guard

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/solegate/solegate/keys/verify"
)

// ForwardAuth says where a proxy that asks puts the method and the target of
// the request in question. One place is read, and never another: what a proxy
// does not set itself, a client can.
//
// The answer is 200 with the identity headers, all of them, the empty ones too,
// so that a proxy that copies them replaces what a client sent. Otherwise it is
// 401, 403, 429 for who asks too often (see Config.Limits), or 503 while nothing
// can be checked. nginx knows 401 and 403 only and makes a 500 of all else: by
// Original, 429 and 503 are a 403 with the status in X-Solegate-Status, from where
// nginx can be told to take it.
//
// The guard can't take anything away from a request that it only hears of. So a
// request is refused that brings a header which the guard would take away for
// who it is, its path or its method: X-Solegate-Subject, X-HTTP-Method-Override
// and the like.
type ForwardAuth string

// The places.
const (
	// Forwarded is X-Forwarded-Method and X-Forwarded-Uri, of Caddy's
	// forward_auth and Traefik's ForwardAuth.
	Forwarded ForwardAuth = "x-forwarded"

	// Original is X-Original-Method and X-Original-URI, which nginx's
	// auth_request is configured to send.
	Original ForwardAuth = "x-original"

	// Request is the request itself, as Envoy's ext_authz repeats it.
	Request ForwardAuth = "request"
)

var forwardAuths = []ForwardAuth{Forwarded, Original, Request}

// loopback are who may ask if nobody else was named.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// asked answers a proxy.
func (g *Guard) asked(w http.ResponseWriter, r *http.Request) {
	w = &narrow{w, g.config.ForwardAuth == Original}
	if a := peer(r); !a.IsValid() || !trusted(g.config.TrustedProxies, a) {
		g.refuse(w, r, http.StatusForbidden, "invalid_request", "Only a proxy may ask.", fmt.Errorf("%s is none of TrustedProxies", a))
		return
	}
	in, err := g.inQuestion(r)
	if err != nil {
		g.refuse(w, r, http.StatusForbidden, "invalid_request", "The method or the path is not in the form that is expected here.", err)
		return
	}
	check := http.Handler(http.HandlerFunc(g.check))
	if in.Method != http.MethodOptions {
		// Pages may read why they were refused. A preflight request is not
		// answered here: an answer of 2xx would mean that it may pass.
		check = g.cors(check)
	}
	check.ServeHTTP(w, in)
}

// inQuestion is the request that a proxy asks for.
func (g *Guard) inQuestion(r *http.Request) (*http.Request, error) {
	method, target := r.Method, r.URL.RequestURI()
	var err error
	switch g.config.ForwardAuth {
	case Forwarded:
		if method, err = one(r.Header, "X-Forwarded-Method"); err == nil {
			target, err = one(r.Header, "X-Forwarded-Uri")
		}
	case Original:
		if method, err = one(r.Header, "X-Original-Method"); err == nil {
			target, err = one(r.Header, "X-Original-Uri")
		}
	case Request:
		// As it was sent: RequestURI() above writes it anew.
		err = sensible(r)
	}
	if err != nil {
		return nil, err
	}
	for name := range r.Header {
		if forged(name) {
			return nil, fmt.Errorf("the client sent %.60q", name)
		}
	}
	u, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	in := r.WithContext(r.Context())
	in.Method, in.URL, in.RequestURI = method, u, target
	return in, nil
}

// one returns the value of a header that the proxy sets.
func one(h http.Header, name string) (string, error) {
	values := h[name]
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("%d headers %s, one is expected: let the proxy set it, or name another place in ForwardAuth", len(values), name)
	}
	return values[0], nil
}

// forged reports whether a client sent a header to pass for somebody else, or
// for another request. Where the proxy lets a client say where it comes from is
// the proxy's own matter.
func forged(name string) bool {
	if !plain(name) {
		// X_Solegate_Subject is one to many frameworks.
		name = dashes(name)
	}
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "X-Rewrite-Url", "X-Original-Url", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "Remote-User", "X-Remote-User":
		return true
	}
	return len(name) >= len("X-Solegate-") && name[:len("X-Solegate-")] == "X-Solegate-"
}

func dashes(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !plain(string(c)) {
			b[i] = '-'
		}
	}
	return string(b)
}

// allow says that a request may pass, and who it is of.
func (g *Guard) allow(w http.ResponseWriter, r *http.Request) {
	t := verify.FromContext(r.Context())
	if t == nil {
		t = &verify.Token{} // a public route: nobody
	} else if err := expressible(t); err != nil {
		g.verify.Refuse(w, r, err)
		return
	}
	h := w.Header()
	for _, pair := range identity(t) {
		h.Set(pair[0], pair[1])
	}
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

// HeaderStatus is the status that a request is to be answered with, for a proxy
// that knows 401 and 403 only.
const HeaderStatus = "X-Solegate-Status"

// narrow makes 403 of the refusals that proxies have no notion of.
type narrow struct {
	http.ResponseWriter
	two bool // of all but 401 and 403
}

// WriteHeader implements [http.ResponseWriter].
func (n *narrow) WriteHeader(status int) {
	switch {
	case status == http.StatusOK || status == http.StatusUnauthorized || status == http.StatusForbidden:
	case status == http.StatusTooManyRequests || status >= 500:
		if n.two {
			n.Header().Set(HeaderStatus, strconv.Itoa(status))
			status = http.StatusForbidden
		}
	default:
		status = http.StatusForbidden
	}
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is what [http.ResponseController] calls.
func (n *narrow) Unwrap() http.ResponseWriter { return n.ResponseWriter }
