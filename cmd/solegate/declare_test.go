package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

// declaring is a configuration file's clients and a store to declare them in.
type declaring struct {
	*testing.T
	store storage.Store
	log   bytes.Buffer
}

func newDeclaring(t *testing.T) *declaring {
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &declaring{T: t, store: store}
}

// spa is a client as the file declares it.
func spa(name string, disabled bool) clientSettings {
	return clientSettings{
		ID: "spa", Name: name, Disabled: disabled, RedirectURIs: []string{"https://app.example.com/callback"},
		Origins: []string{"https://app.example.com"}, Audiences: []string{"https://api.example.com"},
	}
}

// at declares the clients in store, which is d.store or one with faults.
func (d *declaring) at(store storage.Store, list ...clientSettings) {
	d.Helper()
	c := &configuration{settings: settings{Clients: list}}
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	if err := new(app).declare(d.Context(), c, store, audit.New(audit.Config{Log: log}), log); err != nil {
		d.Fatal(err)
	}
}

func (d *declaring) client() clients.Client {
	d.Helper()
	c, err := d.store.Client(d.Context(), "spa")
	if err != nil {
		d.Fatal(err)
	}
	return c
}

// events counts the audit events of that name.
func (d *declaring) events(what string) int {
	n := 0
	for line := range strings.SplitSeq(d.log.String(), "\n") {
		if strings.Contains(line, "audit=true") && strings.Contains(line, what) {
			n++
		}
	}
	return n
}

func TestClientGoneFromTheFileIsReleased(t *testing.T) {
	for name, disabled := range map[string]bool{"enabled in the file": false, "disabled in the file": true} {
		d := newDeclaring(t)
		d.at(d.store, spa("", disabled))
		before := d.client()
		d.at(d.store)
		after := d.client()
		if after.Declared || !after.Disabled {
			t.Errorf("%s: declared %t, disabled %t when it is gone: released and disabled expected", name, after.Declared, after.Disabled)
		}
		// Grants end when it is disabled, not again when it is released.
		if ended := after.Epoch != before.Epoch; ended == disabled {
			t.Errorf("%s: grants ended: %t", name, ended)
		}
		if events := d.events("client disabled"); (events == 1) == disabled || events > 1 {
			t.Errorf("%s: %d audit events\n%s", name, events, d.log.String())
		}
		d.at(d.store)
		if d.client().Version != after.Version {
			t.Errorf("%s: it is released a second time", name)
		}
	}
}

func TestFileDisablesAndEnables(t *testing.T) {
	d := newDeclaring(t)
	d.at(d.store, spa("", false))
	first := d.client()
	d.at(d.store, spa("", false))
	if d.client().Version != first.Version || d.log.Len() > 0 {
		t.Errorf("the same file again is no change, but it was written or logged\n%s", d.log.String())
	}
	d.at(d.store, spa("", true))
	d.at(d.store, spa("Orders", true))
	off := d.client()
	if !off.Disabled || off.Epoch != first.Epoch+1 || d.events("client disabled") != 1 {
		t.Errorf("disabled in the file: %+v, %d events: disabled, the next epoch and one event expected", off, d.events("client disabled"))
	}
	d.at(d.store, spa("Orders", false))
	if on := d.client(); on.Disabled || on.Epoch != off.Epoch || d.events("client enabled") != 1 {
		t.Errorf("enabled in the file: %+v, %d events: enabled, the same epoch and one event expected", on, d.events("client enabled"))
	}
}

// A refresh token of a confidential client doesn't rotate and lies in a database,
// worth nothing without the credential: it must not become a public client's.
func TestFileTakesTheCredentialAway(t *testing.T) {
	d := newDeclaring(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("secret", []byte("9f8b1c6de02a4735b1d0c2e7f4a69358"), 0o600); err != nil {
		t.Fatal(err)
	}
	public, backend := spa("", false), spa("", false)
	backend.Origins, backend.AuthMethod, backend.SecretFile = nil, "client_secret_basic", "secret"
	d.at(d.store, public)
	first := d.client()
	d.at(d.store, backend)
	if c := d.client(); !c.Confidential() || c.Epoch != first.Epoch {
		t.Errorf("with a credential: %+v: the same epoch, %d, expected", c, first.Epoch)
	}
	d.at(d.store, public)
	last := d.client()
	if last.Confidential() || last.Epoch != first.Epoch+1 {
		t.Errorf("without one: %+v: the next epoch after %d expected", last, first.Epoch)
	}
	d.at(d.store, public)
	if d.client().Version != last.Version {
		t.Error("the same file again is no change, but it was written")
	}
}

// TestAnotherWriterWasQuicker: whatever somebody else does between the read
// and the write, what the file says is what the store holds in the end.
func TestAnotherWriterWasQuicker(t *testing.T) {
	registered, _, err := spa("by hand", false).client(false)
	if err != nil {
		t.Fatal(err)
	}
	registered.Declared = false
	for name, c := range map[string]struct {
		begin func(*declaring)
		write string // before this write
		other func(d *declaring) error
		file  []clientSettings
		want  string // name of the client, or none: it is gone
	}{
		"registered": {
			func(*declaring) {}, "CreateClient",
			func(d *declaring) error { return d.store.CreateClient(d.Context(), registered) },
			[]clientSettings{spa("file", false)}, "file",
		},
		"changed": {
			func(d *declaring) { d.at(d.store, spa("old", false)) }, "UpdateClient",
			func(d *declaring) error { return d.store.UpdateClient(d.Context(), d.client()) },
			[]clientSettings{spa("file", false)}, "file",
		},
		"removed before a change": {
			func(d *declaring) { d.at(d.store, spa("old", false)) }, "UpdateClient",
			func(d *declaring) error { return d.store.RemoveClient(d.Context(), "spa") },
			[]clientSettings{spa("file", false)}, "file",
		},
		"changed before the release": {
			func(d *declaring) { d.at(d.store, spa("old", false)) }, "UpdateClient",
			func(d *declaring) error { return d.store.UpdateClient(d.Context(), d.client()) },
			nil, "old",
		},
		"removed before the release": {
			func(d *declaring) { d.at(d.store, spa("old", false)) }, "UpdateClient",
			func(d *declaring) error { return d.store.RemoveClient(d.Context(), "spa") },
			nil, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeclaring(t)
			c.begin(d)
			var once sync.Once
			d.at(storagetest.WithFaults(d.store, func(write string) storagetest.Outcome {
				if write == c.write {
					once.Do(func() {
						if err := c.other(d); err != nil {
							t.Error(err)
						}
					})
				}
				return storagetest.Outcome{}
			}), c.file...)
			all, err := d.store.ListClients(t.Context(), storage.Page{Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			declared := len(c.file) > 0
			switch {
			case c.want == "" && len(all) > 0, c.want != "" && len(all) != 1:
				t.Errorf("the store holds %+v, the client %q expected", all, c.want)
			case c.want != "" && (all[0].Name != c.want || all[0].Declared != declared || all[0].Disabled == declared):
				t.Errorf("the client is %+v, want name %q, declared %t", all[0], c.want, declared)
			}
		})
	}
}

// TestManyServersStartAtOnce: they all start, and one of them does it.
func TestManyServersStartAtOnce(t *testing.T) {
	d := newDeclaring(t)
	log := slog.New(slog.NewTextHandler(&d.log, nil)) // it locks
	together := func(list ...clientSettings) {
		t.Helper()
		var servers sync.WaitGroup
		for range 24 {
			servers.Go(func() {
				c := &configuration{settings: settings{Clients: list}}
				if err := new(app).declare(t.Context(), c, d.store, audit.New(audit.Config{Log: log}), log); err != nil {
					t.Error(err)
				}
			})
		}
		servers.Wait()
	}
	together(spa("", false))
	first := d.client()
	together(spa("", true))
	if c := d.client(); !c.Disabled || c.Epoch != first.Epoch+1 || d.events("client disabled") != 1 {
		t.Errorf("disabled by 24 servers: %+v, %d events: the next epoch and one event expected", c, d.events("client disabled"))
	}
	together(spa("", false))
	together()
	if c := d.client(); c.Declared || !c.Disabled || c.Epoch != first.Epoch+2 || d.events("client disabled") != 2 {
		t.Errorf("released by 24 servers: %+v, %d events: the next epoch and one event more expected", c, d.events("client disabled"))
	}
}

// rfc8037 is the public key of RFC 8037 appendix A.2.
const rfc8037 = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// TestBackendIsDeclared: its keys and its secret come from their files at each
// start, and it is written only when they have changed.
func TestBackendIsDeclared(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const one, other = "9f8b1c6de02a4735b1d0c2e7f4a69358", "0a4735b1d0c2e7f4a693589f8b1c6de2"
	write("jwks.json", "\n"+strings.Replace(rfc8037, `"kty"`, ` "kid": "<&>", "kty" `, 1))
	write("secret", one+"\n")
	settings := spa("", false)
	settings.Origins = nil
	d := newDeclaring(t)

	settings.AuthMethod, settings.JWKSFile = "private_key_jwt", "jwks.json"
	d.at(d.store, settings)
	first := d.client()
	if keys, err := first.Keys(); err != nil || len(keys) != 1 || keys[0].ID != "<&>" {
		t.Errorf("the keys are %+v, %v", keys, err)
	}
	d.at(d.store, settings)
	if d.client().Version != first.Version {
		t.Error("the same keys again are no change, but they were written")
	}
	write("jwks.json", rfc8037)
	d.at(d.store, settings)
	second := d.client()
	if keys, err := second.Keys(); err != nil || len(keys) != 1 || keys[0].ID != "" || second.Version == first.Version {
		t.Errorf("the new keys are %+v, %v", keys, err)
	}

	settings.AuthMethod, settings.JWKSFile, settings.SecretFile = "client_secret_basic", "", "secret"
	d.at(d.store, settings)
	if c := d.client(); !c.CheckSecret(one) || c.CheckSecret(one+"\n") || len(c.JWKS) > 0 {
		t.Errorf("%+v", c)
	}
	write("secret", other)
	d.at(d.store, settings)
	third := d.client()
	if !third.CheckSecret(other) || third.CheckSecret(one) {
		t.Error("the secret did not change with its file")
	}
	if d.log.Len() > 0 {
		t.Errorf("logged without a cause:\n%s", d.log.String())
	}
	if err := os.Chmod("secret", 0o644); err != nil {
		t.Fatal(err)
	}
	d.at(d.store, settings)
	if d.client().Version != third.Version || !strings.Contains(d.log.String(), "secret_file secret can be read by others") || strings.Contains(d.log.String(), other) {
		t.Errorf("a secret that everybody can read:\n%s", d.log.String())
	}
}

// TestClientsREADME holds the YAML of the README, and its table of settings, to
// what there is.
func TestClientsREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "clients", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```yaml\n")
	text, table, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("there is no YAML in it")
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{"backend.jwks.json": rfc8037, "reports.secret": "9f8b1c6de02a4735b1d0c2e7f4a69358\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &configuration{file: "solegate.yaml", origin: map[string]string{}}
	c.parse([]byte(text))
	c.checkClients()
	if err := c.err(); err != nil || len(c.Clients) != 3 {
		t.Errorf("%d clients, %v", len(c.Clients), err)
	}
	settings := reflect.TypeFor[clientSettings]()
	for i := range settings.NumField() {
		if name := settings.Field(i).Tag.Get("yaml"); !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table of the README is without %s", name)
		}
	}
}
