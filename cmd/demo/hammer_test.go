package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/cmd/demo/script"
	"github.com/solegate/solegate/cmd/demo/stage"
)

// shown is what a terminal shows.
type shown struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// TestHammer: the token that was copied out of the browser is worth nothing; a
// login of the script's own is somebody's, and is suspended. Both terminals say
// so, and the one of the script in the order in which it happens.
func TestHammer(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "index.html"), []byte("the app"), 0o600); err != nil {
		t.Fatal(err)
	}
	var operator, terminal shown
	s, err := stage.Start(t.Context(), stage.Config{Folder: folder, Files: folder, Password: password.Params{Memory: 64, Time: 1, Threads: 1}, Log: slog.New(newWatch(&operator))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	app, err := script.New(t.Context(), s.SPAURL)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := app.SignIn(t.Context(), stage.User, stage.Password)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := app.Call(t.Context(), tokens.Access); err != nil || a.Status != 200 {
		t.Fatalf("the API answers whose token it is %+v, %v", a, err)
	}
	if tokens, err = app.Refresh(t.Context(), tokens); err != nil {
		t.Fatal(err)
	}
	if err := hammer(t.Context(), s.SPAURL, strings.NewReader(tokens.Access+"\n"), &terminal); err != nil {
		t.Fatalf("%v\n%s", err, terminal.String())
	}
	text := terminal.String()
	for _, line := range []string{
		`  401  As a bearer token\. .+`,
		`  401  Without a proof\. .+`,
		`  401  With a proof by another key\. .+`,
		`  \S+  signed in`,
		`  \S+  request 1: 200 RateLimit: "notes-read";r=\d+;t=\d+ `,
		`  \S+  request \d+: 429 Retry-After: 1 RateLimit: "notes-read";r=0;t=1 There were too many requests; try again later\.`,
		`  (\S+)  request \d+: 401 The access token was revoked\.`,
		`  \S+  \d+ times 200, \d+ times 429, then 401`,
		`  \S+  refresh: the login server refused: .+`,
		`  \S+  sign in: the login page says: .+suspended.+`,
	} {
		at := regexp.MustCompile(`(?m)^` + line + `$`).FindStringIndex(text)
		if at == nil {
			t.Fatalf("no line %s in, or not in this order:\n%s", line, terminal.String())
		}
		text = text[at[1]:]
	}
	if told := operator.String(); !regexp.MustCompile(`(?m)^\S+  account reported  resource_server: notes-api  reason: limit: notes-read, .+\n(?s:.*)^\S+  user suspended  rule: hammering  reason: `).MatchString(told) {
		t.Errorf("the operator is told:\n%s", told)
	}
	// The app's login is the same person's: it ended, too.
	if a, err := app.Call(t.Context(), tokens.Access); err != nil || a.Status != 401 {
		t.Errorf("the API answers the app %+v, %v", a, err)
	}
	if _, err := app.Refresh(t.Context(), tokens); err == nil {
		t.Error("the app can refresh")
	}
	u, err := s.Store.UserByName(t.Context(), stage.User)
	if err != nil || u.Block == nil || u.Block.Until.After(u.Block.At.Add(time.Minute)) || u.Block.Until.Before(u.Block.At) {
		t.Errorf("the block is %+v, %v", u.Block, err)
	}
}

func TestHammerWithoutADemo(t *testing.T) {
	err := hammer(t.Context(), "http://127.0.0.1:1", strings.NewReader(""), &shown{})
	if err == nil || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("the error is %v", err)
	}
}

// TestWatch: of all that is logged an operator of the demo sees what concerns an
// account that is reported, and no identifiers.
func TestWatch(t *testing.T) {
	var out shown
	log := slog.New(newWatch(&out))
	log.Info("something", "rule", "x")
	log.Debug("user blocked", "audit", true)
	audited := log.With("audit", true)
	audited.Info("login succeeded", "user", "id-of-alice")
	if got := out.String(); got != "" {
		t.Errorf("it shows %q", got)
	}
	audited.Info("account reported", "resource_server", "api", "user", "id-of-alice", "reason", "limit")
	audited.WithGroup("x").Info("user suspended", "rule", "hammering", "jkt", "thumbprint")
	if got := out.String(); !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}  account reported  resource_server: api  reason: limit\n\S+  user suspended  rule: hammering\n$`).MatchString(got) {
		t.Errorf("it shows %q", got)
	}
}
