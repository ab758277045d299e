package verify_test

import (
	"bufio"
	"encoding/json"
	"maps"
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
	for _, name := range []string{"testdata/node/protect.mjs", "testdata/node/dpop.mjs", "testdata/protect.py"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), string(text)) {
			t.Errorf("README.md does not have %s as it is", name)
		}
	}
}

// startNode installs what the README's Node.js API needs, changes its text, and
// runs it. It returns its address.
func startNode(t *testing.T, issuer *verifytest.Issuer, change func(string) string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "protect.mjs")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	install.Dir = folder
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v (Node.js with npm is needed)\n%s", err, out)
	}
	node := exec.CommandContext(t.Context(), "node", "protect.mjs")
	node.Dir = folder
	node.Env = append(os.Environ(), "ISSUER="+issuer.URL, "AUDIENCE="+audience, "PUBLIC_URL="+audience, "PORT=0")
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Process.Kill()
		node.Wait()
	})
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatal("the API did not start")
	}
	return "http://127.0.0.1:" + line.Text()
}

// ask calls the API with an Authorization header and proofs, and returns the
// status.
func ask(t *testing.T, address, authorization string, proofs ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	r.Header["Dpop"] = proofs
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestNodeSnippet runs the README's Node.js API against an issuer.
func TestNodeSnippet(t *testing.T) {
	issuer := verifytest.New(t)
	api := startNode(t, issuer, func(text string) string { return text })
	good := map[string]any{"scope": "openid notes:read"}
	nodeTakesDPoP(t, issuer, api, good)
	stranger := verifytest.New(t)
	key := verifytest.NewKey(t)
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
		{"bound", issuer.BoundToken(key, good), 401},
		{"other key", stranger.Sign(stranger.Key(), map[string]any{"typ": "at+jwt"}, issuer.Claims(good)), 401},
		{"other algorithm", issuer.Sign(issuer.AddKey("rsa", jose.RS256), map[string]any{"typ": "at+jwt"}, issuer.Claims(good)), 401},
	} {
		authorization := ""
		if c.token != "" {
			authorization = "Bearer " + c.token
		}
		if got := ask(t, api, authorization); got != c.status {
			t.Errorf("%s: %d, %d expected", c.name, got, c.status)
		}
	}
}

// TestNodeSnippetWithDPoP runs it with the README's difference.
func TestNodeSnippetWithDPoP(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "## In Node.js")
	_, rest, found2 := strings.Cut(rest, "```diff\n")
	diff, _, _ := strings.Cut(rest, "```")
	if !found || !found2 {
		t.Fatal("README.md has no difference for Node.js")
	}
	issuer := verifytest.New(t)
	api := startNode(t, issuer, func(text string) string {
		for hunk := range strings.SplitSeq(diff, "@@\n") {
			var before, after strings.Builder
			for line := range strings.Lines(hunk) {
				if line[0] != '+' {
					before.WriteString(line[1:])
				}
				if line[0] != '-' {
					after.WriteString(line[1:])
				}
			}
			if strings.Count(text, before.String()) != 1 {
				t.Fatalf("protect.mjs does not have once:\n%s", &before)
			}
			text = strings.Replace(text, before.String(), after.String(), 1)
		}
		return text
	})
	scope := map[string]any{"scope": "notes:read"}
	key, thief := verifytest.NewKey(t), verifytest.NewKey(t)
	token, address := issuer.BoundToken(key, scope), audience+"/notes"
	proof := func(changes map[string]any) string { return key.Proof("GET", address, token, changes) }
	once := proof(nil)
	private := maps.Clone(key.JWK)
	private["d"] = "AAAA"
	claims := map[string]any{}
	if raw, err := decodePart(proof(nil), 1); err != nil || json.Unmarshal(raw, &claims) != nil {
		t.Fatal("the proof can't be read")
	}
	weak, plain := issuer.BoundToken(key, nil), issuer.Token(scope)
	certified := issuer.Token(map[string]any{"scope": "notes:read", "cnf": map[string]any{"jkt": key.JKT, "x5t#S256": key.JKT}})
	now := time.Now().Unix()
	for _, c := range []struct {
		name          string
		authorization string
		proofs        []string
		status        int
	}{
		{"good", "DPoP " + token, []string{once}, 200},
		{"replayed", "DPoP " + token, []string{once}, 401},
		{"good again", "DPoP " + token, []string{proof(nil)}, 200},
		{"with a query in htu", "DPoP " + token, []string{proof(map[string]any{"htu": address + "?a=b"})}, 200},
		{"bearer", "Bearer " + plain, nil, 200},
		{"no scope", "DPoP " + weak, []string{key.Proof("GET", address, weak, nil)}, 403},
		{"bound as Bearer", "Bearer " + token, []string{proof(nil)}, 401},
		{"unbound as DPoP", "DPoP " + plain, []string{key.Proof("GET", address, plain, nil)}, 401},
		{"no proof", "DPoP " + token, nil, 401},
		{"two proofs", "DPoP " + token, []string{proof(nil), proof(nil)}, 401},
		{"another's key", "DPoP " + token, []string{thief.Proof("GET", address, token, nil)}, 401},
		{"cnf by certificate", "DPoP " + certified, []string{key.Proof("GET", address, certified, nil)}, 401},
		{"other method", "DPoP " + token, []string{proof(map[string]any{"htm": "POST"})}, 401},
		{"other path", "DPoP " + token, []string{proof(map[string]any{"htu": audience + "/other"})}, 401},
		{"other host", "DPoP " + token, []string{proof(map[string]any{"htu": api + "/notes"})}, 401},
		{"no htu", "DPoP " + token, []string{proof(map[string]any{"htu": nil})}, 401},
		{"other token", "DPoP " + token, []string{proof(map[string]any{"ath": key.JKT})}, 401},
		{"no ath", "DPoP " + token, []string{proof(map[string]any{"ath": nil})}, 401},
		{"stale", "DPoP " + token, []string{proof(map[string]any{"iat": now - 80})}, 401},
		{"future", "DPoP " + token, []string{proof(map[string]any{"iat": now + 60})}, 401},
		{"no iat", "DPoP " + token, []string{proof(map[string]any{"iat": nil})}, 401},
		{"no jti", "DPoP " + token, []string{proof(map[string]any{"jti": nil})}, 401},
		{"typ", "DPoP " + token, []string{key.SignProof(map[string]any{"typ": "JWT"}, claims)}, 401},
		{"private key", "DPoP " + token, []string{key.SignProof(map[string]any{"jwk": private}, claims)}, 401},
		{"symmetric", "DPoP " + token, []string{key.SignProof(map[string]any{"alg": "HS256"}, claims)}, 401},
		{"signed as these are", "DPoP " + token, []string{key.SignProof(nil, claims)}, 200},
		{"another's jwk", "DPoP " + token, []string{key.SignProof(map[string]any{"jwk": thief.JWK}, claims)}, 401},
	} {
		if got := ask(t, api+"/notes", c.authorization, c.proofs...); got != c.status {
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
