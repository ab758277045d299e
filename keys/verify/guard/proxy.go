package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// Bounds of what the upstream may do.
const (
	dialTimeout       = 5 * time.Second
	maxResponseHeader = 64 << 10
)

// upstream reads an upstream's address; h2c is HTTP/2 without TLS.
func upstream(text string) (target *url.URL, h2c bool, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" {
		return nil, false, fmt.Errorf("%q: http, https or h2c, a host and a port are expected, such as http://127.0.0.1:3000", text)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, false, fmt.Errorf("%q: no path is expected: the upstream sees the one that was checked", text)
	}
	h2c = u.Scheme == "h2c"
	if h2c {
		u.Scheme = "http"
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, h2c, nil
}

// transports reach the upstream: a WebSocket needs HTTP/1.1, whatever all else
// is in.
type transports struct{ plain, upgrade http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t transports) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return t.upgrade.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

func newTransport(h2c bool, timeout time.Duration, secure *tls.Config) http.RoundTripper {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	base := func(protocols *http.Protocols) *http.Transport {
		return &http.Transport{
			// No proxy of the environment's: the upstream is near, and what
			// goes there says who asks.
			Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: secure.Clone(), Protocols: protocols,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: maxResponseHeader,
			DisableCompression: true, // what the client and the upstream agree on goes through as it is
		}
	}
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	if h2c {
		two.SetUnencryptedHTTP2(true)
	} else {
		two.SetHTTP1(true)
		two.SetHTTP2(true)
	}
	return transports{plain: base(two), upgrade: base(one)}
}

// passage is what belongs to a request on its way to the upstream and back.
type passage struct {
	token  *verify.Token // nil on a public route
	from   netip.Addr
	kept   http.Header // what the guard has set on the answer, such as DPoP-Nonce
	cancel context.CancelFunc
	ends   []func() // stop what ends a WebSocket or an event stream
	ended  atomic.Bool
	conn   atomic.Pointer[net.Conn] // the client's, of a WebSocket
}

type passageKey struct{}

func passageOf(ctx context.Context) *passage {
	p, _ := ctx.Value(passageKey{}).(*passage)
	return p
}

// newProxy returns what passes on requests that were let through.
func (g *Guard) newProxy() (http.Handler, error) {
	target, h2c, err := upstream(g.config.Upstream)
	if err != nil {
		return nil, err
	}
	public, err := url.Parse(g.verify.PublicURL())
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport:     newTransport(h2c, g.config.Timeout, g.config.UpstreamTLS),
		FlushInterval: -1, // nothing waits for more to come
		BufferPool:    buffers{},
		ErrorLog:      slog.NewLogLogger(g.config.Verify.Log.Handler(), slog.LevelDebug),
		// Rewrite comes after the headers that Connection names are gone, so
		// that nobody takes these away again.
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = target.Scheme, target.Host
			pr.Out.Host = "" // the upstream's: the client's own word doesn't count
			// Some servers take trailers for headers.
			pr.Out.Trailer = nil
			h := pr.Out.Header
			p := passageOf(pr.In.Context())
			if p.from.IsValid() {
				h.Set("X-Forwarded-For", p.from.String())
			}
			if public.Host != "" {
				h.Set("X-Forwarded-Host", public.Host)
				h.Set("X-Forwarded-Proto", public.Scheme)
			} else if pr.In.TLS != nil {
				h.Set("X-Forwarded-Proto", "https")
			} else {
				h.Set("X-Forwarded-Proto", "http")
			}
			if p.token != nil {
				for _, pair := range identity(p.token) {
					if pair[1] != "" {
						h.Set(pair[0], pair[1])
					}
				}
			}
		},
		ModifyResponse: g.answered,
		ErrorHandler:   g.unanswered,
	}, nil
}

// pass passes a request on. What comes here was let through by its route.
func (g *Guard) pass(w http.ResponseWriter, r *http.Request) {
	p := &passage{token: verify.FromContext(r.Context()), from: g.address(r)}
	if p.token != nil {
		if err := expressible(p.token); err != nil {
			g.verify.Refuse(w, r, err)
			return
		}
	}
	header := g.forUpstream(r.Header)
	upgrade := websocket(r)
	if upgrade {
		if err := g.upgradable(r, p.token); err != nil {
			g.verify.Refuse(w, r, err)
			return
		}
	} else {
		// An upgrade to anything else, as to h2c, is a tunnel for requests
		// that nobody checks.
		delete(header, "Upgrade")
		delete(header, "Http2-Settings")
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	p.cancel = cancel
	defer p.stop()
	if upgrade {
		g.endInTime(r, p)
	}
	// The proxy adds to the answer's headers, and clears them after one of
	// 1xx: they are put in when the answer is there.
	p.kept = w.Header().Clone()
	clear(w.Header())

	out := r.WithContext(context.WithValue(ctx, passageKey{}, p))
	out.Header = header
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		control.EnableFullDuplex() // the answer may begin before the body ends
	}
	patient := newPatient(w, control, g.config.Timeout, p)
	if r.Body != nil && r.ContentLength != 0 {
		out.Body = &patientBody{r.Body, control, g.config.Timeout}
	}
	g.proxy.ServeHTTP(patient, out)
	patient.end()
}

// answered looks at the upstream's answer before it goes on.
func (g *Guard) answered(resp *http.Response) error {
	p := passageOf(resp.Request.Context())
	resp.Header.Del("Alt-Svc") // an address without a guard
	if len(g.config.Verify.Origins) > 0 {
		resp.Header.Del("Access-Control-Allow-Origin")
		resp.Header.Del("Access-Control-Allow-Credentials")
	}
	keep(resp.Header, p.kept)
	if eventStream(resp.Header) {
		g.endInTime(resp.Request, p)
		resp.Body = &ending{resp.Body, p}
	}
	return nil
}

// keep puts the guard's own headers over those of an answer.
func keep(h, kept http.Header) {
	for name, values := range kept {
		switch name {
		case "Vary", "Access-Control-Expose-Headers", "Ratelimit", "Ratelimit-Policy": // lists
			h[name] = append(h[name], values...)
		default:
			h[name] = values
		}
	}
}

// unanswered answers for an upstream that doesn't.
func (g *Guard) unanswered(w http.ResponseWriter, r *http.Request, err error) {
	status, description := http.StatusBadGateway, "The API can't be reached."
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		status, description = http.StatusGatewayTimeout, "The API does not answer in time."
	}
	if errors.Is(err, context.Canceled) {
		g.config.Verify.Log.DebugContext(r.Context(), "the client went away", "path", r.URL.Path)
	} else {
		g.config.Verify.Log.ErrorContext(r.Context(), "the upstream does not answer: is it running at the address of Config.Upstream?", "upstream", g.config.Upstream, "path", r.URL.Path, "error", err)
	}
	keep(w.Header(), passageOf(r.Context()).kept)
	answer(w, status, "temporarily_unavailable", description)
}

// buffers are for copying bodies.
type buffers struct{}

var pool = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// Get implements [httputil.BufferPool].
func (buffers) Get() []byte { return *pool.Get().(*[]byte) }

// Put implements [httputil.BufferPool].
func (buffers) Put(b []byte) { pool.Put(&b) }

func eventStream(h http.Header) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}
