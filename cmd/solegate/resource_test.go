package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// readerFunc is a standard input that does something when it is read.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestChangedMeanwhile: two operators change the same record at the same moment.
// The second is told so, and what the first wrote stays.
func TestChangedMeanwhile(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "solegate.db")
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	check(err)
	defer store.Close()
	const jwks = `{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	check(store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: "api", Audience: "https://api.example.com", AuthMethod: clients.PrivateKeyJWT, JWKS: []byte(jwks), CreatedAt: time.Now()}))
	check(store.CreateClient(t.Context(), clients.Client{ID: "backend", Development: true, AuthMethod: clients.PrivateKeyJWT, JWKS: []byte(jwks), GrantTypes: []string{"client_credentials"}, Audiences: []string{"https://api.example.com"}, CreatedAt: time.Now()}))

	// The key set is read from standard input after the record was read.
	update := func(noun, id string, meanwhile func() error) string {
		t.Helper()
		text := strings.NewReader(jwks)
		var stderr bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &stderr, environ: []string{"SOLEGATE_STORE=" + path, "SOLEGATE_DEVELOPMENT=true"}}
		a.stdin = readerFunc(func(p []byte) (int, error) {
			if meanwhile != nil {
				check(meanwhile())
				meanwhile = nil
			}
			return text.Read(p)
		})
		root := a.root()
		root.SetArgs([]string{noun, "update", id, "--name", "second", "--jwks", "-"})
		if err := root.ExecuteContext(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	}
	first := func() error {
		rs, err := store.ResourceServer(t.Context(), "api")
		if err != nil {
			return err
		}
		rs.Name = "first"
		return store.UpdateResourceServer(t.Context(), rs)
	}
	if got := update("resource", "api", first); got != "resource server api was changed by somebody else at this moment: look at it and try again" {
		t.Errorf("resource update: %q", got)
	}
	if rs, err := store.ResourceServer(t.Context(), "api"); err != nil || rs.Name != "first" {
		t.Errorf("the resource server is %+v, %v", rs, err)
	}
	if got := update("resource", "api", nil); got != "" {
		t.Errorf("alone: %q", got)
	}
	firstClient := func() error {
		c, err := store.Client(t.Context(), "backend")
		if err != nil {
			return err
		}
		c.Name = "first"
		return store.UpdateClient(t.Context(), c)
	}
	if got := update("client", "backend", firstClient); got != "client backend was changed by somebody else at this moment: look at it and try again" {
		t.Errorf("client update: %q", got)
	}
	removed := func() error { return store.RemoveResourceServer(t.Context(), "api") }
	if got := update("resource", "api", removed); !strings.Contains(got, storage.ErrNotFound.Error()) {
		t.Errorf("resource update of one that is removed: %q", got)
	}
}
