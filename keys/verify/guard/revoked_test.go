package guard_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/guard"
)

// follow puts a guard into the world that follows the feed.
func (w *world) follow(options ...func(*guard.Config)) {
	w.t.Helper()
	c := guard.Config{
		Verify: w.config(), Upstream: w.upstream.URL,
		Routes: []guard.Route{{Pattern: "GET /orders", Scopes: []string{"orders:read"}}, {Pattern: "GET /news", Public: true}},
	}
	c.Verify.Credential, c.Verify.Feed = w.Credential(audience), &verify.Feed{}
	for _, option := range options {
		option(&c)
	}
	w.guard = w.newGuard(c)
	w.server = httptest.NewServer(w.guard)
	w.t.Cleanup(w.server.Close)
}

// live is an upstream with a WebSocket and an event stream.
func live(rw http.ResponseWriter, r *http.Request) { liveUntil(nil)(rw, r) }

// liveUntil is live with an answer, to the query slow, that ends when proceed is
// closed.
func liveUntil(proceed <-chan struct{}) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			echo(rw, r)
		case r.URL.RawQuery == "slow":
			io.WriteString(rw, "begin ")
			rw.(http.Flusher).Flush()
			<-proceed
			io.WriteString(rw, "end")
		default:
			rw.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(rw, "data: hello\n\n")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}
}

// of is a token of a session that may read orders.
func (w *world) of(session string) string {
	return w.Token(map[string]any{"scope": "orders:read", "sid": session})
}

// TestRevokedTokenClosesWhatIsOpen within a second, and nothing of others.
func TestRevokedTokenClosesWhatIsOpen(t *testing.T) {
	proceed := make(chan struct{})
	w := newWorld(t, liveUntil(proceed))
	log := &logged{}
	w.follow(func(c *guard.Config) { c.Verify.Log = slog.New(slog.NewTextHandler(log, nil)) })
	socket, answer := w.upgrade("/orders", w.of("one"))
	if socket == nil {
		t.Fatal(answer)
	}
	other, _ := w.upgrade("/orders", w.of("two"))
	stream := w.response("GET", "/orders", w.of("one"))
	otherStream := w.response("GET", "/orders", w.of("two"))
	public := w.response("GET", "/news", "")
	slow := w.response("GET", "/orders?slow", w.of("one"))
	next := w.response("GET", "/orders", w.of("three"))
	for _, conn := range []net.Conn{socket, other} {
		send(conn, "hello")
		if got, err := receive(conn); got != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	began := time.Now()
	w.Revoke(feed.Session, "one")
	closes(t, socket)
	if rest, err := io.ReadAll(stream.Body); err != nil || string(rest) != "data: hello\n\n" {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	// A request that was let in is finished, also after what came next was applied.
	w.Revoke(feed.Session, "three")
	io.Copy(io.Discard, next.Body)
	close(proceed)
	if rest, err := io.ReadAll(slow.Body); err != nil || string(rest) != "begin end" {
		t.Errorf("a request ended with %q, %v", rest, err)
	}
	// What is of others goes on.
	send(other, "again")
	if got, err := receive(other); got != "again" {
		t.Errorf("another WebSocket: %q, %v", got, err)
	}
	for name, resp := range map[string]*http.Response{"another": otherStream, "a public one": public} {
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "data: hello\n" {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
	if status := w.call("GET", "/orders", w.of("one")); status != 401 {
		t.Errorf("it comes again: %d", status)
	}
	if s := w.guard.Verifier().FeedState(); s.Ended != 3 { // two of one, and the next
		t.Errorf("%+v", s)
	}
	if text := log.String(); strings.Count(text, `msg="what was open is closed" path=/orders error=invalid_token cause="the feed says: the session \"one\" was revoked"`) != 2 {
		t.Errorf("the log says\n%s", text)
	}
}

// logged is a log to look at.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestF36StaleFeedClosesWhatIsOpen by the policy that the owner chose.
func TestF36StaleFeedClosesWhatIsOpen(t *testing.T) {
	w := newWorld(t, live)
	w.follow(func(c *guard.Config) { c.Verify.Feed = &verify.Feed{StaleAfter: 10 * time.Second} })
	refuses := w.server
	w.follow(func(c *guard.Config) {
		c.Verify.Feed = &verify.Feed{StaleAfter: 10 * time.Second, WhenStale: verify.Continue}
	})
	goesOn := w.server
	w.server = refuses
	stream := w.response("GET", "/orders", w.of("one"))
	socket, _ := w.upgrade("/orders", w.of("one"))
	w.server = goesOn
	kept, _ := w.upgrade("/orders", w.of("one"))
	w.SetDown(true)
	w.Feed.Cut()
	closes(t, socket)
	if _, err := io.ReadAll(stream.Body); err != nil {
		t.Error(err)
	}
	send(kept, "hello")
	if got, err := receive(kept); got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestClientThatTakesNothingIsCutOff: a WebSocket whose client neither reads nor
// writes holds nothing once its token is revoked.
func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	stuck := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		conn, _, _ := rw.(http.Hijacker).Hijack()
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		for frame := make([]byte, 1<<20); ; {
			conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := conn.Write(frame); err != nil {
				close(stuck)
				io.Copy(io.Discard, conn)
				return
			}
		}
	})
	w.follow()
	returned := make(chan struct{})
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.guard.ServeHTTP(rw, r)
		close(returned)
	}))
	t.Cleanup(w.server.Close)
	if conn, answer := w.upgrade("/orders", w.of("one")); conn == nil {
		t.Fatal(answer)
	}
	<-stuck
	w.Revoke(feed.Session, "one")
	select {
	case <-returned:
	case <-time.After(10 * time.Second):
		t.Error("the guard still has the connection")
	}
}

// TestPassageIsForgotten when the client closes it.
func TestPassageIsForgotten(t *testing.T) {
	w := newWorld(t, live)
	w.follow()
	socket, _ := w.upgrade("/orders", w.of("one"))
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", w.server.URL+"/orders", nil)
	r.Header.Set("Authorization", "Bearer "+w.of("two"))
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := w.guard.Verifier().FeedState().Watched; n != 2 {
		t.Errorf("%d are watched", n)
	}
	socket.Close()
	cancel()
	deadline := time.After(10 * time.Second)
	for w.guard.Verifier().FeedState().Watched != 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("%+v", w.guard.Verifier().FeedState())
		}
	}
}

// TestManyOpenStreams: with a thousand open, one is closed alone, and all within
// a second when their client is.
func TestManyOpenStreams(t *testing.T) {
	w := newWorld(t, live)
	w.follow()
	const n = 1000
	ended := make(chan int, n)
	for i := range n {
		resp := w.response("GET", "/orders", w.of(fmt.Sprint(i)))
		go func() {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			ended <- i
		}()
	}
	w.Revoke(feed.Session, "77")
	if i := <-ended; i != 77 {
		t.Errorf("%d ended", i)
	}
	if s := w.guard.Verifier().FeedState(); s.Watched != n-1 || s.Ended != 1 {
		t.Errorf("%+v", s)
	}
	began := time.Now()
	w.Revoke(feed.Client, "spa")
	for range n - 1 {
		<-ended
	}
	t.Logf("all were closed after %s", time.Since(began))
	if s := w.guard.Verifier().FeedState(); s.Ended != n {
		t.Errorf("%+v", s)
	}
}
