package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/verifytest"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// command runs a command of the command line and returns what it printed.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var stdout strings.Builder
	root := (&app{stdin: strings.NewReader(""), stdout: &stdout, stderr: io.Discard}).root()
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return stdout.String()
}

// TestF35GuardRefusesWhatWasRevoked by a command at the server's store, and closes
// what is open, within a second; a guard with a secret and one with a key.
func TestF35GuardRefusesWhatWasRevoked(t *testing.T) {
	const audience = "http://127.0.0.1:4000"
	secret := strings.Repeat("0123456789abcdef", 4)
	var store string
	server := start(t, func(c *configuration) {
		store = c.Store
		for _, id := range []string{"one", "two"} {
			c.Clients = append(c.Clients, clientSettings{ID: id, AuthMethod: "client_secret_basic", SecretFile: secretFile(t, secret), GrantTypes: []string{"client_credentials"}, Audiences: []string{audience}, Scopes: []string{"orders:read"}})
		}
	})
	token := func(client string) string { return backendToken(t, server, client, secret) }
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			io.WriteString(w, "orders")
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer upstream.Close()

	var registered struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(command(t, "resource", "register", "--store", store, "--audience", audience, "--json")), &registered); err != nil {
		t.Fatal(err)
	}
	bySecret := []string{"--credential-id", registered.ID, "--credential-secret-file", secretFile(t, registered.Secret)}
	keyFile, jwksFile := writeKey(t)
	if err := json.Unmarshal([]byte(command(t, "resource", "register", "--store", store, "--audience", audience, "--auth-method", "private_key_jwt", "--jwks", jwksFile, "--json")), &registered); err != nil {
		t.Fatal(err)
	}
	byKey := []string{"--credential-id", registered.ID, "--credential-key-file", keyFile, "--credential-key-id", "k"}

	type opened struct {
		guard, token string
		stream       *bufio.Reader
	}
	var list []opened
	for client, credential := range map[string][]string{"one": bySecret, "two": byKey} {
		o := opened{guard: "http://" + startGuard(t, append(credential, "--issuer", "http://"+server, "--audience", audience, "--upstream", upstream.URL,
			"--route", "GET /orders=orders:read", "--route", "GET /stream=orders:read")...), token: token(client)}
		if status, _ := askGuard(t, http.DefaultClient, o.guard+"/orders", o.token); status != 200 {
			t.Fatalf("%s before: %d", client, status)
		}
		r, _ := http.NewRequestWithContext(t.Context(), "GET", o.guard+"/stream", nil)
		r.Header.Set("Authorization", "Bearer "+o.token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		o.stream = bufio.NewReader(resp.Body)
		if line, _ := o.stream.ReadString('\n'); line != "data: hello\n" {
			t.Fatalf("%s: the stream says %q", client, line)
		}
		list = append(list, o)
	}
	command(t, "revoke", "--store", store, "--all")
	began := time.Now()
	for i, o := range list {
		if rest, err := io.ReadAll(o.stream); err != nil || string(rest) != "\n" {
			t.Errorf("stream %d ended with %q, %v", i, rest, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("stream %d was closed after %s", i, took)
		}
		if status, _ := askGuard(t, http.DefaultClient, o.guard+"/orders", o.token); status != 401 {
			t.Errorf("%d: revoked, and answered %d", i, status)
		}
	}
}

// writeKey makes a key pair and writes its private half as PEM and the public
// one, called k, into a key set with another.
func writeKey(t *testing.T) (private, public string) {
	t.Helper()
	folder := t.TempDir()
	private, public = filepath.Join(folder, "key.pem"), filepath.Join(folder, "jwks.json")
	var set []string
	for _, id := range []string{"other", "k"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		b64 := base64.RawURLEncoding.EncodeToString
		set = append(set, fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"alg":"ES256","use":"sig","x":%q,"y":%q}`, id, b64(point[1:33]), b64(point[33:])))
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(public, []byte(`{"keys":[`+strings.Join(set, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return private, public
}

// awaits asks until the answer is as wanted.
func awaits(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(30 * time.Second); !ok(); {
		select {
		case <-deadline:
			t.Fatalf("waited for: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestF36GuardIsNotReady when the feed is stale and its owner said refuse, and
// says why.
func TestF36GuardIsNotReady(t *testing.T) {
	issuer := verifytest.New(t)
	const audience = "https://api.example.com"
	credential := issuer.Credential(audience)
	upstream, _ := whoAmI(t)
	guards := map[string]*guarding{}
	for _, policy := range []string{"refuse", "continue"} {
		guards[policy] = runGuard(t, "--issuer", issuer.URL, "--audience", audience, "--upstream", upstream, "--route", "GET /orders",
			"--credential-id", credential.ID, "--credential-secret-file", secretFile(t, credential.Secret), "--stale-after", "10s", "--when-stale", policy)
	}
	for policy, g := range guards {
		if status, body := g.get(t, "/readyz"); status != 200 {
			t.Errorf("%s: %d %s", policy, status, body)
		}
		if _, body := g.get(t, "/metrics"); !strings.Contains(body, "\nsolegate_guard_ready 1\n") || !strings.Contains(body, "\nsolegate_guard_feed_following 1\n") {
			t.Errorf("%s: the metrics are\n%s", policy, body)
		}
	}
	issuer.SetDown(true)
	issuer.Feed.Cut()
	token := issuer.Token(nil)
	refuse, goesOn := guards["refuse"], guards["continue"]
	awaits(t, "a guard that is not ready", func() bool {
		status, body := refuse.get(t, "/readyz")
		return status == 503 && strings.Contains(body, "the revocation feed can't be followed")
	})
	if status, _ := askGuard(t, http.DefaultClient, "http://"+refuse.address+"/orders", token); status != 503 {
		t.Errorf("refuse: %d", status)
	}
	awaits(t, "a feed that is stale", func() bool {
		_, body := goesOn.get(t, "/metrics")
		return strings.Contains(body, "\nsolegate_guard_feed_following 0\n")
	})
	if status, _ := askGuard(t, http.DefaultClient, "http://"+goesOn.address+"/orders", token); status != 200 {
		t.Errorf("continue: %d", status)
	}
	if status, body := goesOn.get(t, "/readyz"); status != 200 {
		t.Errorf("continue: %d %s", status, body)
	}
	if _, body := goesOn.get(t, "/metrics"); !strings.Contains(body, "\nsolegate_guard_feed_passed_stale_total 1\n") {
		t.Errorf("the metrics are\n%s", body)
	}
	for policy, g := range guards {
		if text := g.log.String(); !strings.Contains(text, "the revocation feed can't be followed") || !strings.Contains(text, "when_stale="+policy) {
			t.Errorf("%s: the log says\n%s", policy, text)
		}
		if strings.Contains(g.log.String(), credential.Secret) {
			t.Errorf("%s: the secret is in the log", policy)
		}
	}
}

// TestGuardReports who goes beyond a limit, also what it had not sent when it is
// told to stop.
func TestGuardReports(t *testing.T) {
	issuer := verifytest.New(t)
	const audience = "https://api.example.com"
	credential := issuer.Credential(audience)
	upstream, _ := whoAmI(t)
	args := []string{"--issuer", issuer.URL, "--audience", audience, "--upstream", upstream, "--route", "GET /orders", "--limit", "account 2/1h",
		"--credential-id", credential.ID, "--credential-secret-file", secretFile(t, credential.Secret)}
	for _, c := range []struct {
		more []string
		want int
	}{{nil, 1}, {[]string{"--reports=false"}, 1}} {
		g := runGuard(t, append(args[:len(args):len(args)], c.more...)...)
		for range 5 {
			askGuard(t, http.DefaultClient, "http://"+g.address+"/orders", issuer.Token(nil))
		}
		g.stop()
		if got := issuer.Reports(); len(got) != c.want || got[0].Count != 3 || got[0].Reason != "account" {
			t.Errorf("%v: reported %+v\n%s", c.more, got, g.log)
		}
	}
}

// TestGuardsShareALimit through a real Redis; while it hangs or is gone, each
// goes on with its own and says so, and no request waits.
func TestGuardsShareALimit(t *testing.T) {
	issuer := verifytest.New(t)
	redis := redistest.Single(t)
	upstream, _ := whoAmI(t)
	args := []string{"--issuer", issuer.URL, "--audience", "https://api.example.com", "--upstream", upstream, "--route", "GET /orders", "--limit", "account 100/1h", "--limits-store", "redis://" + redis.Addr}
	one, two := runGuard(t, args...), runGuard(t, args...)
	ask := func(g *guarding, subject string) int {
		began := time.Now()
		status, _ := askGuard(t, http.DefaultClient, "http://"+g.address+"/orders", issuer.Token(map[string]any{"sub": subject}))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a request took %s", took)
		}
		return status
	}
	// hammer asks until that is too much, and returns how often it was not.
	hammer := func(g *guarding, subject string) (passed int) {
		for ; passed <= 200; passed++ {
			if status := ask(g, subject); status == 429 {
				break
			} else if status != 200 {
				t.Fatalf("%d", status)
			}
		}
		return passed
	}
	if n := hammer(one, "mallory"); n != 100 {
		t.Errorf("%d passed at the first guard, 100 are expected", n)
	}
	// The second learns of it with its first charge, a tenth of a second later.
	passed := 0
	awaits(t, "a guard that knows what was used at the other", func() bool {
		if ask(two, "mallory") == 429 {
			return true
		}
		passed++
		return false
	})
	if passed == 0 || passed > 99 {
		t.Errorf("%d passed at the second guard; some are expected, and not its own 100", passed)
	}
	if _, body := two.get(t, "/metrics"); !strings.Contains(body, "\nsolegate_guard_limit_alone 0\n") {
		t.Errorf("the metrics are\n%s", body)
	}

	alone := func(want int) {
		t.Helper()
		awaits(t, fmt.Sprint("limit_alone ", want), func() bool {
			ask(one, fmt.Sprint("somebody ", time.Now().UnixNano()))
			_, body := one.get(t, "/metrics")
			return strings.Contains(body, fmt.Sprintf("\nsolegate_guard_limit_alone %d\n", want))
		})
	}
	for name, c := range map[string]struct{ begin, end func() }{"hangs": {redis.Pause, redis.Resume}, "is gone": {redis.Kill, redis.Start}} {
		c.begin()
		alone(1)
		if n := hammer(one, name); n != 100 {
			t.Errorf("Redis %s: %d passed, 100 are expected", name, n)
		}
		if name == "is gone" { // it begins, too
			late := runGuard(t, args...)
			if n := hammer(late, name); n != 100 || !strings.Contains(late.log.String(), "the limits can't be shared") {
				t.Errorf("a guard that begins then: %d passed\n%s", n, late.log)
			}
		}
		c.end()
		alone(0)
	}
	if log := one.log.String(); strings.Count(log, "can't be charged; each goes on with its own") != 2 || strings.Count(log, "are charged again") != 2 {
		t.Errorf("the log says\n%s", log)
	}
}
