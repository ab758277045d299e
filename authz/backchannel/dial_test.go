package backchannel

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, text := range []string{"1.1.1.1", "93.184.215.14", "168.63.129.15", "172.32.0.1", "2606:4700::1111", "2a00::1", "::ffff:1.1.1.1"} {
		if err := (guard{}).check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s is public and refused: %v", text, err)
		}
	}
	private := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3", "168.63.129.16",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
		"2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "3fff::1", "5f00::1", "4000::1",
	}
	for _, text := range private {
		a := netip.MustParseAddr(text)
		if err := (guard{}).check(a); err == nil {
			t.Errorf("%s would be dialled", text)
		}
		if err := (guard{plain: true}).check(a); err == nil && !a.Unmap().IsLoopback() {
			t.Errorf("%s would be dialled without TLS", text)
		}
		if err := (guard{allow: []netip.Prefix{netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}}).check(a); err != nil {
			t.Errorf("%s is allowed by the operator and refused: %v", text, err)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1111%eth0")} {
		if (guard{}).check(a) == nil {
			t.Errorf("%v would be dialled", a)
		}
	}
	if (guard{}).control(t.Context(), "udp4", "1.1.1.1:53", nil) == nil || (guard{}).control(t.Context(), "tcp4", "1.1.1.1", nil) == nil {
		t.Error("something else than a TCP address and port would be dialled")
	}
}

// receiver is a client's backchannel_logout_uri that counts what it is sent.
type receiver struct {
	*httptest.Server
	requests atomic.Int64
	bodies   chan url.Values
}

func newReceiver(t *testing.T, tls bool, answer http.HandlerFunc) *receiver {
	r := &receiver{bodies: make(chan url.Values, 100)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || req.URL.RawQuery != "" {
			t.Errorf("%s %s with %q: a form post expected", req.Method, req.URL, req.Header.Get("Content-Type"))
		}
		body, err := io.ReadAll(req.Body)
		form, parseErr := url.ParseQuery(string(body))
		if err != nil || parseErr != nil {
			t.Errorf("body %q: %v %v", body, err, parseErr)
		}
		r.bodies <- form
		if answer != nil {
			answer(w, req)
		}
	}))
	r.Config.ErrorLog = nil
	if tls {
		r.StartTLS()
	} else {
		r.Start()
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return pool
}

// names is a resolver for which every name is at 127.0.0.1 (RFC 1035 §4).
func names(t *testing.T) *net.Resolver {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			end := 12 // of the question: labels, a zero, type and class
			for end < n && b[end] != 0 {
				end += int(b[end]) + 1
			}
			end += 5
			if end > n {
				continue
			}
			answer := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, b[12:end]...)
			if b[end-3] == 1 { // type A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
			}
			server.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// TestNameOfAPrivateAddressIsRefused: what counts is the address that is
// dialled, not the name and not an earlier look-up of it (DNS rebinding).
func TestNameOfAPrivateAddressIsRefused(t *testing.T) {
	r := newReceiver(t, true, nil)
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	for _, uri := range []string{"https://example.com:" + port + "/logout", r.URL + "/logout", "https://localhost:" + port, "https://[::ffff:127.0.0.1]:" + port} {
		open := newPoster(false, append(loopback, netip.MustParsePrefix("::1/128")), names(t), r.roots())
		before := r.requests.Load()
		if status, err := open.post(t.Context(), uri, "t"); strings.Contains(uri, "example") && (status != http.StatusOK || err != nil || r.requests.Load() == before) {
			t.Fatalf("%s in a network that the operator allows: %d %v", uri, status, err)
		}
		before = r.requests.Load()
		_, err := newPoster(false, nil, names(t), r.roots()).post(t.Context(), uri, "t")
		if err == nil || !strings.Contains(err.Error(), "allow_networks") || r.requests.Load() != before {
			t.Errorf("%s was asked: %v", uri, err)
		}
	}
}

func TestReceiverMustBeHTTPSOutsideOfDevelopment(t *testing.T) {
	r := newReceiver(t, false, nil)
	if status, err := newPoster(true, nil, nil, nil).post(t.Context(), r.URL, "t"); status != http.StatusOK || err != nil {
		t.Fatalf("in development mode: %d %v", status, err)
	}
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	for _, uri := range []string{r.URL, "http://example.com:" + port, "ftp://example.com", "//example.com", "https://user:pass@example.com/", "https://example.com/#x", "https://", "%", ""} {
		before := r.requests.Load()
		if _, err := newPoster(false, loopback, names(t), nil).post(t.Context(), uri, "t"); err == nil || r.requests.Load() != before {
			t.Errorf("%q was asked", uri)
		}
	}
	// In development, too, plain http leads to this machine only.
	if err := (guard{loopback: true, plain: true}).check(netip.MustParseAddr("93.184.215.14")); err == nil {
		t.Error("plain http leaves the machine in development mode")
	}
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := newReceiver(t, false, nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	r := newReceiver(t, true, nil)
	if status, err := newPoster(false, loopback, names(t), r.roots()).post(t.Context(), strings.Replace(r.URL, "127.0.0.1", "example.com", 1), "t"); status != http.StatusOK || err != nil {
		t.Errorf("the receiver answered %d %v", status, err)
	}
	if proxy.requests.Load() != 0 {
		t.Error("the request went to the proxy")
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := newReceiver(t, false, nil)
	for _, code := range []int{http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		r := newReceiver(t, false, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, elsewhere.URL, code) })
		if status, err := newPoster(true, nil, nil, nil).post(t.Context(), r.URL, "t"); status != code || err != nil {
			t.Errorf("%d: %d %v", code, status, err)
		}
	}
	if elsewhere.requests.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// TestHugeAnswerIsNotRead: a receiver can't fill the memory, nor hold the
// attempt by never ending.
func TestHugeAnswerIsNotRead(t *testing.T) {
	var written atomic.Int64
	done := make(chan struct{})
	r := newReceiver(t, false, func(w http.ResponseWriter, _ *http.Request) {
		defer close(done)
		for range 10_000 {
			n, err := w.Write(make([]byte, 64<<10))
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	if status, err := newPoster(true, nil, nil, nil).post(t.Context(), r.URL, "t"); status != http.StatusOK || err != nil {
		t.Errorf("%d %v", status, err)
	}
	<-done
	if n := written.Load(); n > 64<<20 {
		t.Errorf("the receiver could write %d bytes", n)
	}
	headers := newReceiver(t, false, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	if _, err := newPoster(true, nil, nil, nil).post(t.Context(), headers.URL, "t"); err == nil {
		t.Error("a header of a megabyte was read")
	}
}

func TestSlowReceiverIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	r := newReceiver(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
	})
	silent := newReceiver(t, false, func(http.ResponseWriter, *http.Request) { <-release })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := newPoster(true, nil, nil, nil).post(ctx, silent.URL, "t"); err == nil {
		t.Error("an attempt did not end with its time")
	}
	// A status is an answer, however slow its body.
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if status, err := newPoster(true, nil, nil, nil).post(ctx, r.URL, "t"); status != http.StatusOK || err != nil {
		t.Errorf("a slow body: %d %v", status, err)
	}
}
