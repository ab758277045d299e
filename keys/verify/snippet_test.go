package verify_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys/verify/verifytest"
)

// TestREADMESnippets holds the README to the files that are run below.
func TestREADMESnippets(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"testdata/node/protect.mjs", "testdata/protect.py"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), string(text)) {
			t.Errorf("README.md does not have %s as it is", name)
		}
	}
}

// TestNodeSnippet runs the README's Node.js API against an issuer.
func TestNodeSnippet(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	install.Dir = folder
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v (Node.js with npm is needed)\n%s", err, out)
	}
	issuer := verifytest.New(t)
	node := exec.CommandContext(t.Context(), "node", "protect.mjs")
	node.Dir = folder
	node.Env = append(os.Environ(), "ISSUER="+issuer.URL, "AUDIENCE="+audience, "PORT=0")
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		node.Process.Kill()
		node.Wait()
	}()
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatal("the API did not start")
	}
	api := "http://127.0.0.1:" + line.Text()
	status := func(token string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", api, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	good := map[string]any{"scope": "openid notes:read"}
	nodeTakesDPoP(t, issuer, api, good)
	stranger := verifytest.New(t)
	for _, c := range []struct {
		name   string
		token  string
		status int
	}{
		{"good", issuer.Token(good), 200},
		{"no token", "", 401},
		{"no scope", issuer.Token(nil), 403},
		{"ID token", issuer.Sign(issuer.Key(), map[string]any{"typ": "JWT"}, issuer.Claims(good)), 401},
		{"other audience", issuer.Token(map[string]any{"aud": "https://other.example"}), 401},
		{"other issuer", issuer.Token(map[string]any{"iss": "https://evil.example"}), 401},
		{"expired", issuer.Token(map[string]any{"exp": 1}), 401},
		{"no jti", issuer.Token(map[string]any{"jti": nil}), 401},
		{"bound", issuer.Token(map[string]any{"cnf": map[string]any{"jkt": "x"}}), 401},
		{"other key", stranger.Sign(stranger.Key(), map[string]any{"typ": "at+jwt"}, issuer.Claims(good)), 401},
		{"other algorithm", issuer.Sign(issuer.AddKey("rsa", jose.RS256), map[string]any{"typ": "at+jwt"}, issuer.Claims(good)), 401},
	} {
		if got := status(c.token); got != c.status {
			t.Errorf("%s: %d, %d expected", c.name, got, c.status)
		}
	}
}

// nodeTakesDPoP sends the README's API tokens that are bound to a key.
func nodeTakesDPoP(t *testing.T, issuer *verifytest.Issuer, api string, good map[string]any) {
	t.Helper()
	key, other := verifytest.NewKey(t), verifytest.NewKey(t)
	bound, unbound := issuer.BoundToken(key, good), issuer.Token(good)
	at := audience + "/notes"
	status := func(authorization string, proofs ...string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", api+"/notes?page=2", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		r.Header["Dpop"] = proofs
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	proof := func(changes map[string]any) string { return key.Proof("GET", at, bound, changes) }
	once, now := proof(nil), time.Now().Unix()
	for _, c := range []struct {
		name   string
		status int
		got    int
	}{
		{"good", 200, status("DPoP "+bound, once)},
		{"the same proof again", 401, status("DPoP "+bound, once)},
		{"no proof", 401, status("DPoP " + bound)},
		{"two proofs", 401, status("DPoP "+bound, proof(nil), proof(nil))},
		{"bearer", 401, status("Bearer " + bound)},
		{"bearer with a proof", 401, status("Bearer "+bound, proof(nil))},
		{"another scheme", 401, status("Basic "+unbound, proof(nil))},
		{"a token that is not bound", 401, status("DPoP "+unbound, key.Proof("GET", at, unbound, nil))},
		{"another key", 401, status("DPoP "+bound, other.Proof("GET", at, bound, nil))},
		{"another method", 401, status("DPoP "+bound, key.Proof("POST", at, bound, nil))},
		{"another host", 401, status("DPoP "+bound, key.Proof("GET", api+"/notes", bound, nil))},
		{"another path", 401, status("DPoP "+bound, key.Proof("GET", audience+"/", bound, nil))},
		{"another token", 401, status("DPoP "+bound, key.Proof("GET", at, unbound, nil))},
		{"no hash of the token", 401, status("DPoP "+bound, proof(map[string]any{"ath": nil}))},
		{"no jti", 401, status("DPoP "+bound, proof(map[string]any{"jti": nil}))},
		{"no time", 401, status("DPoP "+bound, proof(map[string]any{"iat": nil}))},
		{"old", 401, status("DPoP "+bound, proof(map[string]any{"iat": now - 120}))},
		{"of the future", 401, status("DPoP "+bound, proof(map[string]any{"iat": now + 120}))},
	} {
		if c.got != c.status {
			t.Errorf("%s: %d, %d expected", c.name, c.got, c.status)
		}
	}
}
