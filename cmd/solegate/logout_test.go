package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// TestLogoutSurvivesEveryProcess: the command that ends the sessions is gone
// before anybody is told, and the server that tried is killed. The next server
// delivers.
func TestLogoutSurvivesEveryProcess(t *testing.T) {
	requests := make(chan string, 10)
	var status atomic.Int64
	status.Store(http.StatusServiceUnavailable)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		requests <- r.PostFormValue("logout_token")
	}))
	defer receiver.Close()
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
	now := time.Now()
	check(store.CreateClient(t.Context(), clients.Client{ID: "rp", BackchannelLogoutURI: receiver.URL, IDTokenAlg: "ES256", Development: true}))
	check(store.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	check(store.CreateSession(t.Context(), storage.Session{ID: "u.s", User: "u", CreatedAt: now, Expires: now.Add(time.Hour)}))
	check(store.CreateGrant(t.Context(), storage.Grant{ID: "u.s.g", User: "u", Session: "u.s", Client: "rp", CreatedAt: now,
		CodeExpires: now.Add(time.Minute), RedeemedAt: now, Generation: 1, Expires: now.Add(time.Hour)}))

	environ := append(os.Environ(), "SOLEGATE_STORE="+path, "SOLEGATE_DEVELOPMENT=true")
	revoke := exec.CommandContext(t.Context(), "solegate", "user", "revoke", "alice")
	revoke.Env = environ
	if out, err := revoke.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if l, err := store.Logout(t.Context(), "rp", "u.s"); err != nil || l.Attempts != 0 {
		t.Fatalf("after the command: %+v, %v", l, err)
	}
	serve := func() *exec.Cmd {
		address := "127.0.0.1:" + freePort(t)
		server := exec.CommandContext(t.Context(), "solegate", "serve")
		server.Env = append(environ, "SOLEGATE_ISSUER=http://"+address, "SOLEGATE_LISTEN="+address)
		server.Stderr = &bytes.Buffer{}
		check(server.Start())
		t.Cleanup(func() {
			if server.Process.Kill(); server.Wait() != nil && t.Failed() {
				t.Log(server.Stderr)
			}
		})
		return server
	}
	first := serve()
	token := <-requests
	for { // until it noted that it failed; a claim alone would hold for a minute
		l, err := store.Logout(t.Context(), "rp", "u.s")
		check(err)
		if l.DueAt.Before(l.CreatedAt.Add(30 * time.Second)) {
			break
		}
	}
	check(first.Process.Kill())
	first.Wait()
	status.Store(http.StatusOK)
	serve()
	if again := <-requests; again == "" || again == token {
		t.Errorf("the second server sent %q: a new token expected", again)
	}
	for {
		if _, err := store.Logout(t.Context(), "rp", "u.s"); errors.Is(err, storage.ErrNotFound) {
			return
		}
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}
