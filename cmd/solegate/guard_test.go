package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// guarding is a running solegate guard.
type guarding struct {
	address, health string
	log             *authztest.Log
	stop            func() // and wait until it has ended
}

// startGuard runs solegate guard with arguments and returns its address, once
// it answers. It stops with the test, and must then end well.
func startGuard(t *testing.T, args ...string) (address string) {
	t.Helper()
	return runGuard(t, args...).address
}

func runGuard(t *testing.T, args ...string) *guarding {
	t.Helper()
	g := &guarding{address: "127.0.0.1:" + freePort(t), health: "http://127.0.0.1:" + freePort(t), log: &authztest.Log{}}
	ctx, cancel := context.WithCancel(context.Background())
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: g.log}
	root := a.root()
	root.SetArgs(append([]string{"guard", "--development", "--listen", g.address, "--health-listen", strings.TrimPrefix(g.health, "http://")}, args...))
	done := make(chan error, 1)
	go func() {
		done <- root.ExecuteContext(ctx)
		close(done)
	}()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the guard ended with %v\n%s", err, g.log)
		}
	})
	t.Cleanup(g.stop)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case err := <-done:
			t.Fatalf("the guard stopped: %v\n%s", err, g.log)
		case <-time.After(20 * time.Millisecond):
			if resp, err := client.Get(g.health + "/livez"); err == nil {
				resp.Body.Close()
				return g
			}
		}
	}
}

// get returns what is beside the API: /readyz and /metrics.
func (g *guarding) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	return askGuard(t, http.DefaultClient, g.health+path, "")
}

// secretFile writes a secret into a file.
func secretFile(t *testing.T, secret string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// whoAmI is an API that says who it thinks is asking, and counts.
func whoAmI(t *testing.T) (address string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/files/forbidden" {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "forbidden by the API")
			return
		}
		fmt.Fprintf(w, "%s|%s|%s|%s", r.Header.Get("X-Solegate-Client"), r.Header.Get("X-Solegate-Scope"), r.Header.Get("Authorization"), r.RequestURI)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// TestGuardWithTheServer is the whole of it: a token that the server gave to a
// backend passes the guard, and nothing else does.
func TestGuardWithTheServer(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 4)
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	audience := "http://127.0.0.1:4000"
	server := start(t, func(c *configuration) {
		c.Clients = []clientSettings{{ID: "backend", AuthMethod: "client_secret_basic", SecretFile: secretFile, GrantTypes: []string{"client_credentials"}, Audiences: []string{audience}, Scopes: []string{"orders:read"}}}
	})
	upstream, asked := whoAmI(t)
	guard := startGuard(t, "--issuer", "http://"+server, "--audience", audience, "--upstream", upstream,
		"--route", "GET /orders=orders:read", "--route", "GET /admin=admin", "--public", "GET /health")

	token := backendToken(t, server, "backend", secret)
	for _, c := range []struct {
		path, token string
		status      int
		body        string
	}{
		{"/orders?page=1", token, 200, "backend|orders:read||/orders?page=1"},
		{"/health", "", 200, "|||/health"},
		{"/orders", "", 401, ""},
		{"/orders", token + "x", 401, ""},
		{"/admin", token, 403, ""},
		{"/livez", token, 404, ""},
		{"/", token, 404, ""},
	} {
		before := asked.Load()
		status, body := askGuard(t, http.DefaultClient, "http://"+guard+c.path, c.token)
		if status != c.status || c.body != "" && body != c.body || (asked.Load() > before) != (c.status == 200) {
			t.Errorf("%s: %d %q, %d %q expected", c.path, status, body, c.status, c.body)
		}
	}
}

// askGuard gets an address with a bearer token and headers in pairs.
func askGuard(t *testing.T, client *http.Client, address, token string, headers ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestGuardServesTLS in front, with HTTP/2, and reaches an upstream that has a
// CA of its own.
func TestGuardServesTLS(t *testing.T) {
	issuer := verifytest.New(t)
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Solegate-Subject"))
	}))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	upstream.StartTLS()
	defer upstream.Close()
	nonceKey := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(nonceKey, []byte(strings.Repeat("0f", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guard := startGuard(t, "--issuer", issuer.URL, "--audience", "https://api.example.com", "--upstream", upstream.URL, "--upstream-ca", certFile,
		"--tls-certificate", certFile, "--tls-key", keyFile, "--dpop-nonce-key-file", nonceKey, "--route", "/orders")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	if status, body := askGuard(t, client, "https://"+guard+"/orders", issuer.Token(nil)); status != 200 || body != "alice" {
		t.Errorf("%d %q", status, body)
	}
	resp, err := client.Get("https://" + guard + "/orders")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 401 || resp.Header.Get("DPoP-Nonce") == "" {
		t.Errorf("%s %d %v", resp.Proto, resp.StatusCode, resp.Header)
	}
}

// TestGuardFinishesWhatIsUnderWay when it is told to stop.
func TestGuardFinishesWhatIsUnderWay(t *testing.T) {
	issuer := verifytest.New(t)
	reached, proceed := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- true
		<-proceed
		fmt.Fprint(w, "done")
	}))
	defer upstream.Close()
	body := make(chan string, 1)
	t.Run("guard", func(t *testing.T) {
		guard := startGuard(t, "--issuer", issuer.URL, "--audience", "https://api.example.com", "--upstream", upstream.URL, "--route", "/orders")
		r, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+guard+"/orders", nil)
		r.Header.Set("Authorization", "Bearer "+issuer.Token(nil))
		go func() {
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				body <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			body <- string(text)
		}()
		<-reached
		t.Cleanup(func() { // runs before the one that stops the guard and waits
			time.AfterFunc(200*time.Millisecond, func() { close(proceed) })
		})
	})
	if got := <-body; got != "done" {
		t.Errorf("%q", got)
	}
}

// TestGuardInREADME holds the README's file and command to what is understood.
func TestGuardInREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "keys", "verify", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## An API that is not written in Go\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, file, _ := strings.Cut(section, "```yaml\n")
	file, _, found := strings.Cut(file, "```")
	if !found {
		t.Fatal("there is no file in the section")
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("guard.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api.secret", "redis.secret"} {
		if err := os.WriteFile(name, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checks := [][]string{{"--config", "guard.yaml"}}
	for _, block := range strings.Split(section, "```\n") {
		if command, ok := strings.CutPrefix(block, "solegate guard "); ok {
			var args []string
			for i, quoted := range strings.Split(strings.ReplaceAll(command, "\\\n", " "), "'") {
				if i%2 == 1 {
					args = append(args, quoted)
				} else {
					args = append(args, strings.Fields(quoted)...)
				}
			}
			checks = append(checks, args)
		}
	}
	if len(checks) != 4 {
		t.Fatalf("%d commands and files, 4 expected", len(checks))
	}
	for _, args := range checks {
		root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
		root.SetArgs(append([]string{"config", "check"}, args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestOpenToAll(t *testing.T) {
	for upstream, want := range map[string]bool{"http://127.0.0.1:3000": false, "http://[::1]:3000": false, "https://10.1.2.3": false, "http://api.internal:3000": false, "http://192.0.2.1:80": true, "http://[2001:db8::1]": true, "": false, ":": false} {
		if openToAll(upstream) != want {
			t.Errorf("%q: %t", upstream, !want)
		}
	}
}

// backendToken returns an access token that a client gets for itself, with the
// scope orders:read, from the server at an address.
func backendToken(t *testing.T, server, client, secret string) string {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+server+"/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "scope": {"orders:read"}}.Encode()))
	r.SetBasicAuth(client, secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("no token: %d %v", resp.StatusCode, err)
	}
	return got.Token
}
