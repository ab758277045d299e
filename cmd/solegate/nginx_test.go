package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/verifytest"
)

const nginxFile = "nginx.conf"

func TestNginxInREADME(t *testing.T) {
	snippet, err := os.ReadFile(filepath.Join("testdata", nginxFile))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "keys", "verify", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, snippet) {
		t.Errorf("keys/verify/README.md does not have testdata/%s as it is", nginxFile)
	}
}

// startNginx runs a real nginx with the README's lines and returns its address.
func startNginx(t *testing.T, guard, upstream string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where no ordinary PATH has it
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: install nginx, on Debian with: apt-get install nginx-light", err)
	}
	snippet, err := os.ReadFile(filepath.Join("testdata", nginxFile))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	address := "127.0.0.1:" + freePort(t)
	var user string
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	temporary := ""
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(folder, name))
	}
	text := fmt.Sprintf("%sdaemon off;\nmaster_process off;\npid %s;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n%sserver {\nlisten %s;\n%s}\n}\n",
		user, filepath.Join(folder, "pid"), temporary, address,
		strings.NewReplacer("http://127.0.0.1:3000", upstream, "http://127.0.0.1:8090", "http://"+guard).Replace(string(snippet)))
	file := filepath.Join(folder, nginxFile)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	nginx := exec.Command(program, "-p", folder, "-c", file, "-e", "stderr")
	nginx.Stderr = &stderr
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- nginx.Wait() }()
	t.Cleanup(func() {
		nginx.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	for {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("nginx ended: %v\n%s", err, stderr.String())
		case <-time.After(10 * time.Millisecond):
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				return address
			}
		}
	}
}

// TestForwardAuthBehindNginx: what reaches the API through a real nginx has
// passed, and says who it is of.
func TestForwardAuthBehindNginx(t *testing.T) {
	issuer := verifytest.New(t)
	const audience = "https://api.example.com"
	upstream, asked := whoAmI(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0f", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	guard := startGuard(t, "--issuer", issuer.URL, "--audience", audience, "--forward-auth", "x-original", "--dpop-nonce-key-file", key, "--limit", "GET /count account 2/1h",
		"--route", "GET /orders=orders:read", "--route", "GET /files/=orders:read", "--route", "GET /admin=admin", "--route", "GET /count", "--public", "GET /health")
	nginx := "http://" + startNginx(t, guard, upstream)
	token := issuer.Token(map[string]any{"scope": "orders:read"})

	for _, c := range []struct {
		name, path, token string
		headers           []string
		status            int
		body              string
	}{
		{"good", "/orders?page=2", token, nil, 200, "spa|orders:read||/orders?page=2"},
		{"good, with a body to come", "/files/a%20b", token, []string{"Accept", "text/plain"}, 200, "spa|orders:read||/files/a%20b"},
		{"public", "/health", "", nil, 200, "|||/health"},
		{"no token", "/orders", "", nil, 401, ""},
		{"bad token", "/orders", "x", nil, 401, ""},
		{"no scope", "/admin", token, nil, 403, ""},
		{"unnamed", "/secret", token, nil, 403, ""},
		{"the internal location", "/_solegate", token, nil, 404, ""},
		{"forged identity", "/orders", token, []string{"X-Solegate-Client", "root"}, 403, ""},
		{"forged identity on a public route", "/health", "", []string{"X-Solegate-Subject", "root"}, 403, ""},
		{"forged with underscores: nginx drops it", "/orders", token, []string{"X_Solegate_Client", "root"}, 200, "spa|orders:read||/orders"},
		{"another path told", "/admin", token, []string{"X-Original-URI", "/orders", "X-Forwarded-Uri", "/orders"}, 403, ""},
		{"another method told", "/orders", token, []string{"X-Original-Method", "POST"}, 200, "spa|orders:read||/orders"},
		{"method overridden", "/orders", token, []string{"X-HTTP-Method-Override", "DELETE"}, 403, ""},
		{"dots", "/files/%2e%2e/admin", token, nil, 403, ""},
		{"encoded slash", "/files/..%2fadmin", token, nil, 403, ""},
		{"double slash", "//admin", token, nil, 403, ""},
	} {
		before := asked.Load()
		status, body := askGuard(t, http.DefaultClient, nginx+c.path, c.token, c.headers...)
		if status != c.status || c.status == 200 && body != c.body || (asked.Load() > before) != (c.status == 200) {
			t.Errorf("%s: %d %q, %d %q expected; the API was asked %d times", c.name, status, body, c.status, c.body, asked.Load()-before)
		}
	}

	// DPoP: the nonce comes through, and the proof is for the public address.
	client := verifytest.NewKey(t)
	bound := issuer.BoundToken(client, map[string]any{"scope": "orders:read"})
	call := func(claims map[string]any) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "GET", nginx+"/orders?page=2", nil)
		if err != nil {
			t.Fatal(err)
		}
		client.Authorize(r, audience+"/orders", bound, claims)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	resp := call(nil)
	nonce := resp.Header.Get("DPoP-Nonce")
	if resp.StatusCode != 401 || nonce == "" || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "use_dpop_nonce") {
		t.Fatalf("no nonce: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := call(map[string]any{"nonce": nonce}); resp.StatusCode != 200 {
		t.Errorf("DPoP: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := call(map[string]any{"nonce": nonce, "htu": nginx + "/orders"}); resp.StatusCode != 401 {
		t.Errorf("a proof for another address: %d", resp.StatusCode)
	}
	if status, _ := askGuard(t, http.DefaultClient, nginx+"/orders", bound); status != 401 {
		t.Errorf("a bound token as Bearer: %d", status)
	}

	// Who goes beyond a limit gets what nginx could not say by itself.
	count := func() *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "GET", nginx+"/count", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	before := asked.Load()
	for left := range 2 {
		if resp := count(); resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("RateLimit"), fmt.Sprintf(`"GET-count-account";r=%d;`, 1-left)) || resp.Header.Get("Retry-After") != "" {
			t.Errorf("within the limit: %d %v", resp.StatusCode, resp.Header)
		}
	}
	if resp := count(); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("RateLimit-Policy") != `"GET-count-account";q=2;w=3600` || asked.Load() != before+2 {
		t.Errorf("beyond the limit: %d %v; the API was asked %d times", resp.StatusCode, resp.Header, asked.Load()-before)
	}
	// What the API itself refuses is the API's own answer.
	if status, body := askGuard(t, http.DefaultClient, nginx+"/files/forbidden", token); status != 403 || body != "forbidden by the API" {
		t.Errorf("the API's own 403: %d %q", status, body)
	}
}

// TestNotReadyBehindNginx: while nothing can be checked, that is what is said.
func TestNotReadyBehindNginx(t *testing.T) {
	issuer := verifytest.New(t)
	upstream, asked := whoAmI(t)
	guard := startGuard(t, "--issuer", issuer.URL, "--audience", "https://api.example.com", "--forward-auth", "x-original", "--route", "GET /orders",
		"--credential-id", "nobody", "--credential-secret-file", secretFile(t, "wrong"))
	nginx := "http://" + startNginx(t, guard, upstream)
	if status, _ := askGuard(t, http.DefaultClient, nginx+"/orders", issuer.Token(nil)); status != 503 || asked.Load() != 0 {
		t.Errorf("%d", status)
	}
}
