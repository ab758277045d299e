package guard_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/guard"
)

func withPassAuthorization(pass bool) func(*guard.Config) {
	return func(c *guard.Config) { c.PassAuthorization = pass }
}

// serveTLS serves the guard by TLS and HTTP/2.
func (w *world) serveTLS() (*httptest.Server, *http.Client) {
	server := httptest.NewUnstartedServer(w.guard)
	server.EnableHTTP2 = true
	server.StartTLS()
	w.t.Cleanup(server.Close)
	return server, server.Client()
}

// streams is an upstream that answers each line at once, in capital letters,
// before the request has ended.
func streams(rw http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(rw)
	control.EnableFullDuplex()
	rw.Header().Set("Content-Type", "application/x-ndjson")
	rw.WriteHeader(200)
	control.Flush()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); control.Flush() {
		fmt.Fprintln(rw, strings.ToUpper(lines.Text()))
	}
}

// converse sends lines one after the other, each after the answer to the last.
func converse(t *testing.T, client *http.Client, url, token string) {
	t.Helper()
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/orders", in)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintf(out, "line %d\n", i)
		if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("LINE %d\n", i) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	out.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v at the end", rest, err)
	}
}

func TestStreamsBothWays(t *testing.T) {
	w := newWorld(t, streams)
	token := w.Token(map[string]any{"scope": "orders:write"})
	converse(t, http.DefaultClient, w.server.URL, token)
	server, client := w.serveTLS()
	converse(t, client, server.URL, token)
}

// TestHTTP2ToTheUpstream, with and without TLS, and HTTP/1.1 for a WebSocket.
func TestHTTP2ToTheUpstream(t *testing.T) {
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(rw, r)
			return
		}
		if r.ProtoMajor != 2 {
			t.Errorf("the upstream is asked in %s", r.Proto)
		}
		rw.Header().Set("Trailer", "X-Sum")
		streams(rw, r)
		rw.Header().Set("X-Sum", "3")
	})
	clear := httptest.NewUnstartedServer(handler)
	clear.Config.Protocols = new(http.Protocols)
	clear.Config.Protocols.SetUnencryptedHTTP2(true)
	clear.Config.Protocols.SetHTTP1(true)
	clear.Start()
	defer clear.Close()
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	for name, change := range map[string]func(*guard.Config){
		"h2c": func(c *guard.Config) { c.Upstream = "h2c://" + clear.Listener.Addr().String() },
		"TLS": func(c *guard.Config) {
			c.Upstream, c.UpstreamTLS = secure.URL, &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
		},
	} {
		w := newWorld(t, nil, change)
		token := w.Token(map[string]any{"scope": "orders:write orders:read"})
		server, client := w.serveTLS()
		converse(t, client, server.URL, token)
		r, _ := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/orders", strings.NewReader("a\n"))
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Trailer.Get("X-Sum") != "3" {
			t.Errorf("%s: no trailer: %v", name, resp.Trailer)
		}
		conn, answer := w.upgrade("/orders", token)
		if conn == nil {
			t.Fatalf("%s: WebSocket: %s", name, answer)
		}
		send(conn, "hello")
		if got, err := receive(conn); got != "hello" {
			t.Errorf("%s: WebSocket: %q, %v", name, got, err)
		}
		conn.Close()
	}
	// An upstream whose certificate is not known is none.
	w := newWorld(t, nil, func(c *guard.Config) { c.Upstream = secure.URL })
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	if status := w.call("GET", "/orders", w.reader()); status != 502 {
		t.Errorf("unknown certificate: %d", status)
	}
}

// TestEventStreamIsNotHeldBack, and ends with the token's life.
func TestEventStreamEndsWithTheToken(t *testing.T) {
	gone := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(rw, "data: first\n\n")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	token := w.Token(map[string]any{"scope": "orders:read", "exp": time.Now().Unix() + 2})
	resp := w.response("GET", "/orders", token)
	first := make([]byte, 100)
	if n, err := resp.Body.Read(first); string(first[:n]) != "data: first\n\n" {
		t.Fatalf("%q, %v", first[:n], err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("it ended with %q, %v; a good end is expected", rest, err)
	}
	<-gone
}

// TestDownloadOutlivesTheToken: what is not a stream of events is finished.
func TestDownloadOutlivesTheToken(t *testing.T) {
	proceed := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "stream" {
			live(rw, r)
			return
		}
		fmt.Fprint(rw, "first")
		rw.(http.Flusher).Flush()
		<-proceed
		fmt.Fprint(rw, "last")
	})
	until := func(exp int64) string { return w.Token(map[string]any{"scope": "orders:read", "exp": exp}) }
	now := time.Now().Unix()
	resp := w.response("GET", "/orders", until(now+1))
	stream := w.response("GET", "/orders?stream", until(now+2))
	if _, err := io.ReadAll(stream.Body); err != nil { // it ends with its token, a second later
		t.Fatal(err)
	}
	close(proceed)
	if body, err := io.ReadAll(resp.Body); string(body) != "firstlast" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestSlowAndDeadUpstreams(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) { <-release }, func(c *guard.Config) { c.Timeout = 100 * time.Millisecond })
	defer close(release)
	if status := w.call("GET", "/orders", w.reader()); status != 504 {
		t.Errorf("slow: %d", status)
	}
	if status := w.call("GET", "/orders", ""); status != 401 {
		t.Errorf("without token, beside a slow upstream: %d", status)
	}
	w = newWorld(t, nil, func(c *guard.Config) { c.Upstream = "http://127.0.0.1:1" })
	if status := w.call("GET", "/orders", w.reader()); status != 502 {
		t.Errorf("dead: %d", status)
	}
	w = newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		conn, _, _ := rw.(http.Hijacker).Hijack()
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 80<<10))
		conn.Close()
	})
	if status := w.call("GET", "/orders", w.reader()); status != 502 {
		t.Errorf("80 KiB of headers: %d", status)
	}
	w = newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", "100")
		fmt.Fprint(rw, "half")
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp := w.response("GET", "/orders", w.reader())
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("an answer that broke off looks whole: %q", body)
	}
}

// TestSilenceIsNoStall: the server's time-outs and the guard's bound who stalls,
// not an upstream that thinks, nor a stream with nothing to say.
func TestSilenceIsNoStall(t *testing.T) {
	const bound, silence = 200 * time.Millisecond, 600 * time.Millisecond
	for name, c := range map[string]struct {
		method  string
		think   time.Duration // before the answer begins
		timeout time.Duration
	}{
		"a stream":                  {"GET", 0, bound},
		"a stream after a body":     {"POST", 0, bound},
		"an answer that takes long": {"POST", silence, time.Minute},
	} {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			if c.think == 0 {
				io.Copy(io.Discard, r.Body)
				rw.WriteHeader(200)
				rw.(http.Flusher).Flush()
			}
			select {
			case <-time.After(silence):
				io.Copy(io.Discard, r.Body)
				fmt.Fprint(rw, "last")
			case <-r.Context().Done():
			}
		}, func(g *guard.Config) { g.Timeout = c.timeout })
		for _, secure := range []bool{false, true} {
			server := httptest.NewUnstartedServer(w.guard)
			server.Config.ReadTimeout, server.Config.WriteTimeout = bound, bound
			if server.EnableHTTP2 = secure; secure {
				server.StartTLS()
			} else {
				server.Start()
			}
			var body io.Reader
			if c.method == "POST" {
				body = strings.NewReader("body")
			}
			r, _ := http.NewRequestWithContext(t.Context(), c.method, server.URL+"/orders", body)
			r.Header.Set("Authorization", "Bearer "+w.Token(map[string]any{"scope": "orders:read orders:write"}))
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Errorf("%s, HTTP/2 %t: %v", name, secure, err)
				continue
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "last" {
				t.Errorf("%s, HTTP/2 %t: %q, %v", name, secure, body, err)
			}
			server.Close()
		}
	}
}

// TestStallingClientIsCutOff: one that doesn't send its body, and one that
// doesn't take its answer.
func TestStallingClientIsCutOff(t *testing.T) {
	ended := make(chan string, 2)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
			ended <- "body"
			return
		}
		for block := make([]byte, 1<<20); ; {
			if _, err := rw.Write(block); err != nil {
				ended <- "answer"
				return
			}
		}
	}, func(c *guard.Config) { c.Timeout = 300 * time.Millisecond })
	for _, head := range []string{
		"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nAuthorization: Bearer " + w.Token(map[string]any{"scope": "orders:write"}) + "\r\n\r\nhalf",
		"GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + w.reader() + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, head)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%.10s: it waits on", head)
		}
		conn.Close()
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	token := w.reader()
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for range 20 {
				want := 200
				path, token := "/orders", token
				if i%2 == 1 {
					path, want = "/admin", 403
				}
				if got := w.call("GET", path, token); got != want {
					t.Errorf("%s: %d", path, got)
				}
			}
		})
	}
	work.Wait()
	for _, r := range w.reached() {
		if r.URL.Path != "/orders" {
			t.Errorf("%s reached the upstream", r.URL)
		}
	}
}

// TestPlainHTTP2InFront is for a proxy in front that speaks h2c.
func TestPlainHTTP2InFront(t *testing.T) {
	w := newWorld(t, streams)
	server := httptest.NewUnstartedServer(w.guard)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	converse(t, &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{}}}, server.URL, w.Token(map[string]any{"scope": "orders:write"}))
}
