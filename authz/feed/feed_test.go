package feed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/feed"
	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

func TestStreamHasWhatWasAndWhatComes(t *testing.T) {
	w := newWorld(t, nil)
	w.append(w.event(orders), w.event(orders))
	r := w.reader(orders)
	r.connect()
	r.until(2)
	if m, err := r.next(); err != nil || len(m.Events) != 0 || !m.IssuedAt.Equal(start) || m.From != m.To || m.To != r.at {
		t.Errorf("behind what was comes %+v, %v: a heartbeat is expected", m, err)
	}
	for n := 3; n < 10; n++ {
		w.append(w.event(orders))
		r.until(n) // at once: no heartbeat is due
	}
	same(t, r.subjects, numbers(to(9)...))
	if r.resp.ProtoMajor != 2 || r.resp.Header.Get("Content-Type") != "text/event-stream" || r.resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the answer is %s %v", r.resp.Proto, r.resp.Header)
	}
}

// TestAudienceSeesWhatConcernsIt: and of others not even that there was
// something.
func TestAudienceSeesWhatConcernsIt(t *testing.T) {
	w := newWorld(t, nil)
	mine, other, nobody := w.reader(orders), w.reader(reports), w.reader(orders+"/")
	for _, r := range []*reader{mine, other} {
		r.connect()
	}
	w.append(w.event(orders), w.event(reports), w.event(orders, reports), w.event("https://third.example.com"), w.event(), w.event(orders))
	mine.until(4)
	same(t, mine.subjects, numbers(1, 3, 5, 6))
	other.until(3)
	same(t, other.subjects, numbers(2, 3, 5))
	nobody.snapshot()
	same(t, nobody.subjects, numbers(5))
	for _, r := range []*reader{w.reader(orders), w.reader(reports)} {
		r.snapshot()
		again := w.reader(r.audience)
		again.connect()
		again.until(len(r.subjects))
		same(t, again.subjects, r.subjects)
	}
}

// TestChangeOfAnotherProcess: what the command line appends to the file comes
// without anybody asking.
func TestChangeOfAnotherProcess(t *testing.T) {
	w := newWorld(t, nil)
	r := w.reader(orders)
	r.connect()
	other := open(t, w.path)
	for n := 1; n < 4; n++ {
		check(t, other.AppendEvents(t.Context(), []storage.Event{w.event()}, start))
		r.until(n)
	}
	same(t, r.subjects, numbers(to(3)...))
}

// TestResume: whoever is cut off at any place, and comes to this server, to a
// replica or to one that was started anew, misses nothing and gets nothing
// twice.
func TestResume(t *testing.T) {
	w := newWorld(t, nil)
	r := w.reader(orders)
	n := 0
	for round := range 12 {
		for range 3 {
			w.append(w.event(orders), w.event(reports))
		}
		if round%3 == 2 {
			w.stop()
			w.serve(nil)
		}
		if !r.connect() {
			t.Fatalf("round %d: %d", round, r.status)
		}
		n += 2 // of 3 that are there: the third comes after the next cut
		r.until(n)
		r.close()
	}
	r.connect()
	r.until(36)
	var want []string
	for i := 1; i <= 72; i += 2 {
		want = append(want, numbers(i)...)
	}
	same(t, r.subjects, want)
}

// TestCursorThatNobodyGave is refused, whatever it is.
func TestCursorThatNobodyGave(t *testing.T) {
	w := newWorld(t, nil)
	w.append(w.event(orders), w.event(orders))
	r := w.reader(orders)
	r.snapshot()
	last := r.at
	for _, forged := range []wire.Cursor{
		last + "0", "9", "zzz", "0", "-", last[:5], last[:len(last)-1] + "-", "0" + last[1:],
		wire.Cursor(fmt.Sprintf("%019d", start.AddDate(1, 0, 0).UnixMicro())) + last[19:],
	} {
		if forged == last {
			continue
		}
		r := w.reader(orders)
		if r.at = forged; r.connect() || r.status != http.StatusGone {
			t.Errorf("%s: a stream begins with %d", forged, r.status)
		}
		if _, err := w.hub.Snapshot(t.Context(), orders, forged); !errors.Is(err, feed.ErrCursor) {
			t.Errorf("%s: a snapshot answers %v", forged, err)
		}
	}
	if !r.connect() {
		t.Errorf("the one that was given: %d", r.status)
	}
}

// TestStoreThatLostEvents: a backup was restored. Nobody goes on from a place
// of what is lost, not even the server, and what comes then is missed by nobody.
func TestStoreThatLostEvents(t *testing.T) {
	fake := &restored{}
	w := newWorld(t, func(c *feed.Config) { fake.eventStore = c.Store; c.Store = fake })
	w.append(w.event(orders), w.event(orders))
	r := w.reader(orders)
	r.connect()
	r.until(2)
	r.next() // the heartbeat
	other := open(t, filepath.Join(t.TempDir(), "restored.db"))
	check(t, other.AppendEvents(t.Context(), []storage.Event{w.event(orders)}, start.Add(-time.Hour)))
	fake.mu.Lock()
	fake.other = other
	fake.mu.Unlock()
	w.ticks <- time.Time{}
	if m, err := r.next(); err == nil {
		t.Fatalf("the stream goes on with %+v", m)
	}
	if r.connect() || r.status != http.StatusGone {
		t.Fatalf("from a place that is lost: %d", r.status)
	}
	r.at = ""
	r.snapshot()
	same(t, r.subjects, numbers(1, 2, 3))
	if !r.connect() {
		t.Errorf("and then the stream: %d", r.status)
	}
}

// restored is a store until it is another one.
type restored struct {
	eventStore
	mu    sync.Mutex
	other storage.Events // of mu
}

func (s *restored) now() storage.Events {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other != nil {
		return s.other
	}
	return s.eventStore
}

func (s *restored) Events(ctx context.Context, after storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	return s.now().Events(ctx, after, limit)
}

// TestCursorOfAReplicaThatIsAhead: a server that has read less asks the store
// before it calls a cursor unknown.
func TestCursorOfAReplicaThatIsAhead(t *testing.T) {
	w := newWorld(t, nil)
	behind, err := feed.New(feed.Config{Issuer: issuer, Store: w.store, Now: w.clock, Sign: w.sign, Signer: func() string { return "k" }})
	check(t, err)
	_, err = behind.Snapshot(t.Context(), orders, "")
	check(t, err)
	w.append(w.event(orders))
	r := w.reader(orders)
	r.snapshot()
	if _, err := behind.Snapshot(t.Context(), orders, r.at); err != nil {
		t.Errorf("the other server's cursor: %v", err)
	}
}

func (w *world) sign(string, []byte) (string, error) { return "a.b.c", nil }

func TestHeartbeats(t *testing.T) {
	var failing atomic.Bool
	w := newWorld(t, func(c *feed.Config) { c.Store = &failingEvents{c.Store, &failing} })
	r := w.reader(orders)
	r.connect()
	r.next()
	for n := range 3 {
		w.advance(5 * time.Second)
		w.append(w.event(reports)) // which moves on, though it says nothing
		w.ticks <- time.Time{}
		for {
			m, err := r.next()
			check(t, err)
			if m.IssuedAt.Equal(w.clock()) {
				break // one that was under way is of before
			}
			if n > 2 {
				t.Fatal("no heartbeat is of now")
			}
		}
	}
	if r.at == "" || len(r.subjects) > 0 {
		t.Errorf("it is at %q with %q", r.at, r.subjects)
	}
	// While the store can't be asked nothing is signed: the next document is of
	// after it can be.
	failing.Store(true)
	w.advance(5 * time.Second)
	for range 3 {
		w.ticks <- time.Time{}
	}
	dark := w.clock()
	w.advance(5 * time.Second)
	failing.Store(false)
	w.ticks <- time.Time{}
	if m, err := r.next(); err != nil || !m.IssuedAt.After(dark) {
		t.Errorf("after the dark comes %+v, %v", m, err)
	}
	if _, err := w.hub.Snapshot(t.Context(), orders, ""); err != nil {
		t.Error(err)
	}
	failing.Store(true)
	if _, err := w.hub.Snapshot(t.Context(), orders, ""); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a snapshot in the dark: %v", err)
	}
	if w.reader(orders).connect() {
		t.Error("a stream begins in the dark")
	}
}

type eventStore = storage.Events

type failingEvents struct {
	eventStore
	failing *atomic.Bool
}

func (f *failingEvents) Events(ctx context.Context, after storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	if f.failing.Load() {
		return nil, after, storage.ErrUnavailable
	}
	return f.eventStore.Events(ctx, after, limit)
}

// TestReaderThatMayNoLonger: its stream ends with the next heartbeat.
func TestReaderThatMayNoLonger(t *testing.T) {
	w := newWorld(t, nil)
	r := w.reader(orders)
	r.connect()
	r.next()
	w.good.Store(false)
	w.ticks <- time.Time{}
	if m, err := r.next(); err == nil {
		t.Errorf("it still gets %+v", m)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	w := newWorld(t, nil)
	r, second := w.reader(orders), w.reader(reports)
	r.connect()
	second.connect()
	r.next()
	w.hub.End()
	for {
		if _, err := r.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("it ends with %v", err)
			}
			break
		}
	}
	if r.connect() {
		t.Error("a new stream begins at a server that stops")
	}
	if _, err := w.hub.Subscribe(t.Context(), orders, ""); !errors.Is(err, feed.ErrStopped) {
		t.Errorf("it says %v", err)
	}
}

// TestSlowReader: one that reads nothing is cut off, the others and the server
// don't notice, and it comes again without a gap.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, func(c *feed.Config) { c.Backlog, c.WriteTimeout = 8, 200*time.Millisecond })
	// A server whose kernel takes little: the reader's slowness shows at once.
	ended := make(chan struct{})
	slow := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.handle(w.hub)(rw, r)
		close(ended)
	}))
	slow.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			check(t, c.(*net.TCPConn).SetWriteBuffer(4096))
		}
	}
	slow.Start()
	defer slow.Close()
	conn, err := net.Dial("tcp", slow.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	check(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(conn, "GET /?audience="+orders+" HTTP/1.1\r\nHost: x\r\n\r\n")
	check(t, err)

	fast := w.reader(orders)
	fast.connect()
	for n := 1; ; n++ {
		w.append(w.event(orders))
		fast.until(n)
		select {
		case <-ended:
		default:
			continue
		}
		break
	}
	// It comes again where it was: too late for the stream, not for a
	// snapshot.
	r := w.reader(orders)
	if r.connect() || r.status != http.StatusGone {
		t.Errorf("the stream goes on with %d", r.status)
	}
	r.snapshot()
	same(t, r.subjects, fast.subjects)
	if !r.connect() {
		t.Errorf("after the snapshot: %d", r.status)
	}
	w.append(w.event(orders))
	r.until(w.n)
	fast.until(w.n)
	same(t, r.subjects, fast.subjects)
}

// TestBurst: more at once than are kept for a stream. Whoever is cut off reads
// a snapshot, and has everything.
func TestBurst(t *testing.T) {
	w := newWorld(t, func(c *feed.Config) { c.Backlog = 16 })
	r := w.reader(orders)
	r.connect()
	r.next()
	var list []storage.Event
	for range 5000 {
		list = append(list, w.event(orders))
	}
	w.append(list...)
	for len(r.subjects) < 5000 {
		if _, err := r.next(); err != nil {
			if !r.connect() {
				r.snapshot()
			}
		}
	}
	same(t, r.subjects, numbers(to(5000)...))
}

// TestServersTimeLimits: those of the server are for requests that end.
func TestServersTimeLimits(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		w := newWorld(t, func(c *feed.Config) {
			c.Ticks, c.Heartbeat, c.WriteTimeout = nil, 300*time.Millisecond, 100*time.Millisecond
		})
		server := httptest.NewUnstartedServer(http.HandlerFunc(w.handle(w.hub)))
		server.Config.ReadTimeout, server.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
		server.EnableHTTP2 = http2
		server.StartTLS()
		r := w.reader(orders)
		resp, err := server.Client().Get(server.URL + "?audience=" + orders)
		check(t, err)
		if (resp.ProtoMajor == 2) != http2 {
			t.Fatalf("it is %s", resp.Proto)
		}
		r.resp, r.stream = resp, wire.NewReader(resp.Body)
		for range 4 {
			if _, err := r.next(); err != nil {
				t.Fatalf("HTTP/2 %v: after %d heartbeats: %v", http2, r.beats, err)
			}
		}
		r.close()
		server.Close()
	}
}
