package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/authz/feed"
	"github.com/solegate/solegate/keys"
	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

const (
	issuer  = "https://login.example.com"
	orders  = "https://api.example.com"
	reports = "https://reports.example.com"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a store, a key ring and a hub that is served by HTTP.
type world struct {
	t     testing.TB
	path  string
	store storage.Store
	ring  *keys.Ring
	hub   *feed.Hub
	ticks chan time.Time
	url   string
	stop  func() // ends Run
	now   atomic.Int64
	good  atomic.Bool // whether readers may still have the feed
	n     int         // events
}

func open(t testing.TB, path string) storage.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newWorld(t testing.TB, change func(*feed.Config)) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "solegate.db"), ticks: make(chan time.Time)}
	w.store = open(t, w.path)
	w.now.Store(start.UnixNano())
	w.good.Store(true)
	master, err := keys.ParseMaster([]byte(authztest.MasterKey))
	check(t, err)
	w.ring, err = keys.Open(t.Context(), keys.Config{Store: w.store, Master: master, Algorithms: []keys.Algorithm{keys.ES256}, Now: w.clock})
	check(t, err)
	w.serve(change)
	return w
}

func (w *world) clock() time.Time        { return time.Unix(0, w.now.Load()) }
func (w *world) advance(d time.Duration) { w.now.Add(int64(d)) }

// serve starts a hub: another process, on the same store.
func (w *world) serve(change func(*feed.Config)) {
	w.t.Helper()
	c := feed.Config{
		Issuer: issuer, Store: w.store, Now: w.clock, Ticks: w.ticks, Reload: w.ring.Reload,
		Sign:   func(typ string, claims []byte) (string, error) { return w.ring.Sign(keys.ES256, typ, claims) },
		Signer: func() string { return w.ring.Signer(keys.ES256) },
	}
	if change != nil {
		change(&c)
	}
	var err error
	w.hub, err = feed.New(c)
	check(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	var work sync.WaitGroup
	work.Go(func() { w.hub.Run(ctx) })
	hub, running := w.hub, make(chan struct{})
	go func() { // until Run runs
		defer close(running)
		for ctx.Err() == nil {
			if s, err := hub.Subscribe(ctx, "-", ""); err == nil {
				gone, cancel := context.WithCancel(ctx)
				cancel()
				s.Serve(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, "GET", "/", nil), func(context.Context) bool { return false })
				return
			}
		}
	}()
	<-running
	server := httptest.NewUnstartedServer(http.HandlerFunc(w.handle(hub)))
	server.EnableHTTP2 = true
	server.StartTLS()
	w.url = server.URL
	http.DefaultTransport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	w.stop = func() { cancel(); work.Wait() }
	w.t.Cleanup(func() { w.stop(); server.CloseClientConnections(); server.Close() })
}

func (w *world) handle(hub *feed.Hub) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		s, err := hub.Subscribe(r.Context(), r.FormValue("audience"), wire.Cursor(r.FormValue("cursor")))
		switch {
		case errors.Is(err, feed.ErrCursor):
			rw.WriteHeader(http.StatusGone)
		case err != nil:
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		default:
			s.Serve(rw, r, func(context.Context) bool { return w.good.Load() })
		}
	}
}

// event makes the next one, for the audiences.
func (w *world) event(audiences ...string) storage.Event {
	w.n++
	return storage.Event{
		ID: fmt.Sprint("e", w.n), Kind: storage.EventGrant, Subject: fmt.Sprintf("u.s.g%d", w.n), Audiences: audiences,
		NotBefore: w.clock(), Until: w.clock().Add(10 * time.Minute),
	}
}

func (w *world) append(list ...storage.Event) {
	w.t.Helper()
	check(w.t, w.store.AppendEvents(w.t.Context(), list, w.clock()))
}

// reader follows the feed of an audience as an API does.
type reader struct {
	w        *world
	audience string
	at       wire.Cursor
	subjects []string
	beats    int // heartbeats
	resp     *http.Response
	stream   *wire.Reader
	status   int
}

func (w *world) reader(audience string) *reader { return &reader{w: w, audience: audience} }

// connect begins a stream where the reader is.
func (r *reader) connect() bool {
	r.w.t.Helper()
	q, err := http.NewRequestWithContext(r.w.t.Context(), "GET", r.w.url+"?audience="+r.audience+"&cursor="+string(r.at), nil)
	check(r.w.t, err)
	r.resp, err = http.DefaultClient.Do(q)
	check(r.w.t, err)
	r.w.t.Cleanup(func() { r.resp.Body.Close() })
	r.stream, r.status = wire.NewReader(r.resp.Body), r.resp.StatusCode
	return r.status == http.StatusOK
}

func (r *reader) close() { r.resp.Body.Close() }

// next reads a document, verifies it, and applies it; the error is the end of
// the stream.
func (r *reader) next() (*wire.Message, error) {
	r.w.t.Helper()
	jws, err := r.stream.Next()
	if err != nil {
		return nil, err
	}
	return r.take(jws), nil
}

func (r *reader) take(jws string) *wire.Message {
	r.w.t.Helper()
	var set jose.JSONWebKeySet
	check(r.w.t, json.Unmarshal(r.w.ring.JWKS().Body, &set))
	signed, err := jose.ParseSignedCompact(jws, []jose.SignatureAlgorithm{jose.ES256})
	check(r.w.t, err)
	payload, err := signed.Verify(set)
	check(r.w.t, err)
	typ, _ := signed.Signatures[0].Header.ExtraHeaders["typ"].(string)
	m, err := wire.Parse(typ, payload, issuer, r.audience)
	if err != nil {
		r.w.t.Fatalf("%s %.500s: %v", typ, payload, err)
	}
	next, err := m.Follow(r.at)
	if err != nil {
		r.w.t.Fatalf("%s %.500s at %q: %v", typ, payload, r.at, err)
	}
	r.at = next
	for _, e := range m.Events {
		r.subjects = append(r.subjects, e.Subject)
	}
	if typ == wire.HeartbeatType {
		r.beats++
	}
	return m
}

// until reads until the reader has n events.
func (r *reader) until(n int) {
	r.w.t.Helper()
	for len(r.subjects) < n {
		if _, err := r.next(); err != nil {
			r.w.t.Fatalf("after %d events of %d: %v", len(r.subjects), n, err)
		}
	}
}

// snapshot reads all pages.
func (r *reader) snapshot() (pages int) {
	r.w.t.Helper()
	for {
		p, err := r.w.hub.Snapshot(r.w.t.Context(), r.audience, r.at)
		check(r.w.t, err)
		pages++
		if len(p.JWS) > wire.MaxSnapshot {
			r.w.t.Errorf("a page has %d bytes", len(p.JWS))
		}
		if !r.take(p.JWS).More {
			return pages
		}
	}
}

// numbers is what subjects should be.
func numbers(list ...int) []string {
	var all []string
	for _, n := range list {
		all = append(all, fmt.Sprintf("u.s.g%d", n))
	}
	return all
}

func to(n int) (list []int) {
	for i := 1; i <= n; i++ {
		list = append(list, i)
	}
	return list
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		t.Errorf("got  %.2000s\nwant %.2000s", a, b)
	}
}
