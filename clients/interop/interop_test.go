package interop

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/cmd/demo/stage"
	"github.com/solegate/solegate/storage"
)

const redirectURI = "http://127.0.0.1:1/callback"

// world is a running server and API, with the real clock: libraries look at
// theirs.
type world struct {
	*stage.Stage
	t *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "index.html"), []byte("no app"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := stage.Start(t.Context(), stage.Config{Folder: folder, Files: folder, Password: authztest.Quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &world{s, t}
}

// register registers a client that may do what the sample app may.
func (w *world) register(c clients.Client) {
	w.t.Helper()
	c.Name, c.Development = "Interop", true
	c.RedirectURIs = []clients.RedirectURI{redirectURI}
	c.Audiences, c.Scopes = w.Client.Audiences, w.Client.Scopes
	c.CreatedAt, c.UpdatedAt = time.Now(), time.Now()
	if !c.Confidential() {
		c.Origins = []clients.Origin{"http://127.0.0.1:1"}
	}
	if _, err := c.Validate(true); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Store.CreateClient(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// browse is somebody who signs in: it follows an authorization request to the
// client's redirect URI.
func (w *world) browse(authorize string) *url.URL {
	w.t.Helper()
	b := (&authztest.Server{TB: w.t, URL: w.AuthURL}).Browser()
	p := b.Follow(b.Get(authorize))
	if p.StatusCode == http.StatusOK {
		p = b.SignIn(p, stage.User, stage.Password)
	}
	at, err := url.Parse(p.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(at.String(), redirectURI+"?") {
		w.t.Fatalf("the login ended with %d at %s:\n%.2000s", p.StatusCode, at, p.Body)
	}
	return at
}

// grants are those of the client.
func (w *world) grants(id clients.ID) []storage.Grant {
	w.t.Helper()
	u, err := w.Store.UserByName(w.t.Context(), stage.User)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := w.Store.ListGrants(w.t.Context(), u.ID, storage.Page{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	var own []storage.Grant
	for _, g := range all {
		if g.Client == id {
			own = append(own, g)
		}
	}
	return own
}

// folder is where the Node.js files are run, and installed brings them there
// with what they need.
var (
	folder    string
	installed = sync.OnceValue(func() error {
		for _, name := range []string{".npmrc", "package.json", "package-lock.json", "browse.mjs", "hardened.mjs", "backend.mjs", "statuslist.mjs"} {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
				return err
			}
		}
		install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
		install.Dir = folder
		if out, err := install.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w (Node.js with npm is needed)\n%s", err, out)
		}
		return nil
	})
)

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "interop"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// node prepares to run a Node.js file as a client.
func (w *world) node(file string, id clients.ID, more ...string) *exec.Cmd {
	w.t.Helper()
	if err := installed(); err != nil {
		w.t.Fatal(err)
	}
	return nodeFile(w.t, file, append([]string{"ISSUER=" + w.AuthURL, "CLIENT_ID=" + string(id), "REDIRECT_URI=" + redirectURI, "API=" + w.APIURL + "/api/notes"}, more...)...)
}

// nodeFile prepares to run a Node.js file, when all is installed.
func nodeFile(t *testing.T, file string, environ ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	node := exec.CommandContext(ctx, "node", file)
	node.Dir = folder
	node.Env = append(os.Environ(), environ...)
	return node
}

// run runs a Node.js file, signs in where it asks for it, and returns what it
// said.
func (w *world) run(file string, id clients.ID, more ...string) []string {
	w.t.Helper()
	node := w.node(file, id, more...)
	var complaints strings.Builder
	node.Stderr = &complaints
	in, err := node.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		w.t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if to, ok := strings.CutPrefix(lines.Text(), "Open "); ok {
			fmt.Fprintln(in, w.browse(to))
			continue
		}
		said = append(said, lines.Text())
	}
	if err := node.Wait(); err != nil {
		w.t.Fatalf("%s: %v\n%s\n%s", file, err, strings.Join(said, "\n"), complaints.String())
	}
	return said
}

// ended checks that a client made one grant, bound to a key, that it has
// revoked.
func (w *world) ended(id clients.ID) {
	w.t.Helper()
	all := w.grants(id)
	if len(all) != 1 || all[0].JKT == "" || all[0].RevokedAt.IsZero() {
		w.t.Errorf("the client's grants: %+v; one that is bound and revoked expected", all)
	}
}

func (w *world) said(got, want []string) {
	w.t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("it said %q, %q expected", got, want)
	}
}

// wanted is what each Node.js file says when all went well.
var wanted = []string{"Signed in alice, dpop", "Refreshed, dpop", "Called the API, 200", "Revoked"}

func TestOAuth4WebAPIAtAHardenedClient(t *testing.T) {
	w := newWorld(t)
	w.register(clients.Client{ID: "hardened", Profile: clients.Hardened})
	w.said(w.run("hardened.mjs", "hardened"), wanted)
	w.ended("hardened")
}

// clientKey makes a client's key: its private JWK, in a file, and its public
// key set.
func clientKey(t *testing.T) (file string, set json.RawMessage) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key, KeyID: "interop", Algorithm: "ES256", Use: "sig"}
	private, err := jwk.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	set, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "client.jwk")
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, set
}

func TestOpenIDClientAtAConfidentialClient(t *testing.T) {
	for _, profile := range []clients.Profile{"", clients.Hardened} {
		t.Run("profile="+string(profile), func(t *testing.T) {
			w := newWorld(t)
			file, set := clientKey(t)
			w.register(clients.Client{ID: "backend", Profile: profile, AuthMethod: clients.PrivateKeyJWT, JWKS: set, RequirePAR: true})
			w.said(w.run("backend.mjs", "backend", "KEY="+file), wanted)
			w.ended("backend")
		})
	}
}

func TestOpenIDClientWithAnotherKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	_, set := clientKey(t)
	stranger, _ := clientKey(t)
	w.register(clients.Client{ID: "backend", AuthMethod: clients.PrivateKeyJWT, JWKS: set})
	node := w.node("backend.mjs", "backend", "KEY="+stranger)
	out, err := node.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "status: 400") {
		t.Errorf("%v, %s; 400 expected", err, out)
	}
	if all := w.grants("backend"); len(all) != 0 {
		t.Errorf("grants were made: %+v", all)
	}
}

func TestGoOIDCAtAConfidentialClient(t *testing.T) {
	w := newWorld(t)
	const secret = "a-secret:with+all%that is/escaped"
	w.register(clients.Client{ID: "web", AuthMethod: clients.SecretBasic, SecretHash: sha256.Sum256([]byte(secret))})
	config := oauth2.Config{ClientID: "web", ClientSecret: secret, RedirectURL: redirectURI}
	browse := func(to string) (url.Values, error) { return w.browse(to).Query(), nil }

	who, err := signIn(t.Context(), w.AuthURL, config, browse)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Name string `json:"preferred_username"`
	}
	if err := who.Claims(&claims); err != nil || claims.Name != stage.User {
		t.Errorf("signed in %q (%v), %s expected", claims.Name, err, stage.User)
	}
	if all := w.grants("web"); len(all) != 1 {
		t.Errorf("the client's grants: %+v; one expected", all)
	}

	config.ClientSecret = "another"
	if _, err := signIn(t.Context(), w.AuthURL, config, browse); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("with another secret: %v, invalid_client expected", err)
	}
}

// TestREADMEShowsTheFiles holds the README to the files that are run above.
func TestREADMEShowsTheFiles(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, language := range map[string]string{"hardened.mjs": "js", "backend.mjs": "js", "signin_test.go": "go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), "```"+language+"\n"+string(text)+"```\n") {
			t.Errorf("README.md does not show %s as it is", name)
		}
	}
}
