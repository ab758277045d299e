package guard_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/guard"
)

// echo is an upstream's WebSocket: it sends back each frame.
func echo(rw http.ResponseWriter, r *http.Request) {
	conn, b, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\nX-Who: %s\r\n\r\n", r.Header.Get("X-Solegate-Subject"))
	io.Copy(conn, b)
}

// upgrade opens a WebSocket through the guard (RFC 6455 §4.1), or returns the
// answer.
func (w *world) upgrade(path, token string, headers ...string) (net.Conn, string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if len(headers) == 0 {
		headers = []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", path, token, strings.Join(headers, "\r\n"))
	// A byte at a time, so that nothing of a frame is taken.
	var answer strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(answer.String(), "\r\n\r\n"); {
		if _, err := conn.Read(b); err != nil {
			return nil, answer.String()
		}
		answer.Write(b)
	}
	if !strings.HasPrefix(answer.String(), "HTTP/1.1 101") {
		return nil, answer.String()
	}
	return conn, answer.String()
}

// send writes a masked text frame (RFC 6455 §5.2); receive reads one that came
// back and returns its text.
func send(conn net.Conn, text string) error {
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 1, 2, 3, 4}, text...)
	for i := range text {
		frame[6+i] ^= byte(1 + i%4)
	}
	_, err := conn.Write(frame)
	return err
}

func receive(conn net.Conn) (string, error) {
	head := make([]byte, 6)
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", err
	}
	if binary.BigEndian.Uint32(head[2:]) != 0x01020304 {
		return "", errors.New("another frame")
	}
	text := make([]byte, head[1]&0x7f)
	_, err := io.ReadFull(conn, text)
	for i := range text {
		text[i] ^= byte(1 + i%4)
	}
	return string(text), err
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t, echo)
	conn, answer := w.upgrade("/orders", w.reader())
	if conn == nil || !strings.Contains(answer, "X-Who: alice") {
		t.Fatal(answer)
	}
	for _, text := range []string{"one", "two"} {
		send(conn, text)
		if got, err := receive(conn); got != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	conn.Close()
	w.reached()
	shake := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"}
	for name, c := range map[string]struct {
		path, token string
		headers     []string
		status      string
	}{
		"no token":            {"/orders", "", shake, "400"},
		"no scope":            {"/admin", w.reader(), shake, "403"},
		"expired, by leeway":  {"/orders", w.Token(map[string]any{"scope": "orders:read", "exp": time.Now().Unix() - 2}), shake, "401"},
		"no key":              {"/orders", w.reader(), shake[:3], "400"},
		"another version":     {"/orders", w.reader(), []string{shake[0], shake[1], "Sec-WebSocket-Version: 1777", shake[3]}, "400"},
		"with a body":         {"/orders", w.reader(), append(shake[:4:4], "Content-Length: 3\r\n\r\nabc"), "400"},
		"with a chunked body": {"/orders", w.reader(), append(shake[:4:4], "Transfer-Encoding: chunked\r\n\r\n0"), "400"},
	} {
		conn, answer := w.upgrade(c.path, c.token, c.headers...)
		if conn != nil || !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || len(w.reached()) != 0 {
			t.Errorf("%s: %q", name, answer)
		}
	}
}

// TestNoOtherTunnel: an upgrade to anything but a WebSocket does not get
// through, and an upstream can't make one either.
func TestNoOtherTunnel(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" {
			t.Errorf("the upstream is asked for %v", r.Header)
		}
		conn, _, _ := rw.(http.Hijacker).Hijack()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n%s\r\n\r\n", cmp.Or(r.Header.Get("X-Answer"), "X-A: b"))
		conn.Close()
	})
	for _, headers := range [][]string{
		{"X-A: b"},
		{"X-Answer: Upgrade: h2c"},
		{"X-Answer: Upgrade: websocket"},
		{"Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"},
		{"Upgrade: h2c, websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"},
		{"Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"},
		{"Upgrade: tls/1.0", "Connection: upgrade"},
		{"Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"},
	} {
		if conn, answer := w.upgrade("/orders", w.reader(), headers...); conn != nil || !strings.HasPrefix(answer, "HTTP/1.1 502") {
			t.Errorf("%v: %q", headers, answer)
		}
	}
}

// closes waits until a connection is closed by the other side.
func closes(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it was not closed: %d, %v", n, err)
	}
}

func TestWebSocketEndsWithItsToken(t *testing.T) {
	closed := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		echo(rw, r)
		close(closed)
	})
	expires := time.Now().Unix() + 2
	conn, answer := w.upgrade("/orders", w.Token(map[string]any{"scope": "orders:read", "exp": expires}))
	if conn == nil {
		t.Fatal(answer)
	}
	send(conn, "hello")
	if got, err := receive(conn); got != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	closes(t, conn)
	<-closed
	if early := time.Until(time.Unix(expires, 0)); early > 0 {
		t.Errorf("it was closed %s early", early)
	} else if early < -5*time.Second {
		t.Errorf("it was closed %s late", -early)
	}
}

func TestWhatLivesOnEndsWithTheGuard(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	g, err := guard.New(ctx, guard.Config{Verify: w.config(), Upstream: w.upstream.URL, Routes: []guard.Route{{Pattern: "GET /orders"}, {Pattern: "GET /news", Public: true}}})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(g)
	defer w.server.Close()
	conn, answer := w.upgrade("/orders", w.reader())
	if conn == nil {
		t.Fatal(answer)
	}
	stream := w.response("GET", "/news", "")
	stop()
	closes(t, conn)
	if rest, err := io.ReadAll(stream.Body); err != nil || len(rest) != 0 {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
}
