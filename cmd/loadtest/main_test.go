package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// TestMain lets the test's own program be the bare handler, the APIs and the
// operator, as loadtest itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{bareMode, apiMode, followMode, operateMode}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args string
		want string // in the error
	}{
		{"", "--server is missing"},
		{"--server x extra", "extra"},
		{"--server x --workers 0", "--workers is 0"},
		{"--server x --workers 5000", "--workers is 5000"},
		{"--server x --duration 1h", "--duration is 1h"},
		{"--server x --duration 1ms", "--duration is 1ms"},
		{"--server x --requests -1", "--requests is -1"},
		{"--server x --grants 3", "--grants is 3"},
		{"--server x --revocations -1", "--revocations is -1"},
		{"--server x --revocations 5 --memory", "--revocations is 5"},
		{"--server x --revocations 5 --apis 0", "--apis 0"},
		{"--server x --revocations 5 --servers 100", "--servers is 100"},
		{"--server x --revocations 5 --calls 0", "--calls 0"},
		{"--server x --population 5", "--population is 5"},
		{"--unknown", "unknown"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr); code != 2 {
			t.Errorf("%q: exit code %d, 2 expected", test.args, code)
		}
		if !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%q: %q, something with %q expected", test.args, &stderr, test.want)
		}
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--server", filepath.Join(dir, "solegate")}, strings.NewReader(""), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "make build") {
		t.Errorf("exit code %d and %q; 1 and what to do expected", code, &stderr)
	}
}

func TestServerThatEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "solegate")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho 'solegate: the address is taken' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--server", program}, strings.NewReader(""), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "the address is taken") {
		t.Errorf("exit code %d and %q; 1 and the server's own words expected", code, &stderr)
	}
	wantAlone(t, program)
}

// TestScenarios runs them against a server in this process: no operation may
// fail, and each must find what the one before it left.
func TestScenarios(t *testing.T) {
	s := authztest.New(t)
	s.AddUser(username)
	client := clients.Client{
		ID: "bench", Name: "Load test", Development: true, RedirectURIs: []clients.RedirectURI{spaRedirect},
		Origins: []clients.Origin{spaOrigin}, Audiences: []string{audience}, Scopes: strings.Fields(scopes),
	}
	if _, err := client.Validate(true); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.CreateClient(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	p, err := login(t.Context(), s.URL, "bench", username, authztest.Password)
	if err != nil {
		t.Fatal(err)
	}
	bare := httptest.NewServer(http.HandlerFunc(ok))
	defer bare.Close()
	there := func(url string) endpoint { return endpoint{address: strings.TrimPrefix(url, "http://")} }
	c := verifier(s.URL, audience)
	c.Now = s.Clock.Now
	protected, err := protectedHere(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(protected)
	defer api.Close()
	r := newTrial(target{server: there(s.URL), bare: there(bare.URL), api: there(api.URL), protected: protected, clientID: "bench", person: p, now: s.Clock.Now},
		options{workers: 4, requests: 40, grants: 8})
	for _, scenario := range scenarios {
		got := scenario.do(r, t.Context())
		// Codes and tokens are the workers' own: one may run dry of them while
		// another has done more than its share.
		if got.errors > 0 || got.operations == 0 || got.operations > 40 {
			t.Errorf("%s: %d operations, %d errors, the first is %v", scenario.name, got.operations, got.errors, got.first)
		}
	}
	families, bound := slices.Concat(r.families...), slices.Concat(r.boundFamilies...)
	for _, n := range []int{len(families), len(bound)} {
		if n == 0 || n > 8 {
			t.Errorf("%d families took turns, 1 to 8 expected", n)
		}
	}
	// What each family ended with is its live token, also when the grace window
	// for the one before is over.
	s.Clock.Advance(time.Minute)
	spa, form := newConn(r.server.address), r.posts()[0]
	defer spa.close()
	refresh := func(family held, k *dpopKey, status int) {
		t.Helper()
		proof := ""
		if k != nil {
			proof = prove(t, k, "POST", s.URL+"/token", "", s.Clock.Now())
		}
		resp, err := spa.do(form.with(proof, "grant_type=refresh_token&client_id=bench&refresh_token=", family.token))
		if err := expect(resp, err, status); err != nil {
			t.Errorf("a family that was left: %v", err)
		}
	}
	for _, family := range families {
		refresh(family, nil, http.StatusOK)
	}
	other := newKey(t)
	for _, family := range bound {
		refresh(family, nil, http.StatusBadRequest)
		refresh(family, other, http.StatusBadRequest)
		refresh(family, family.key, http.StatusOK)
	}
	var tokens []string
	for _, token := range slices.Concat(slices.Concat(r.tokens...), slices.Concat(r.boundTokens...)) {
		tokens = append(tokens, token.token)
	}
	slices.Sort(tokens)
	if n := len(tokens); n == 0 || len(slices.Compact(tokens)) != n {
		t.Errorf("%d access tokens, some of them twice", n)
	}
	// What the verifier was shown were bound tokens, and it looked at the proofs.
	show := r.middleware()
	for _, token := range slices.Concat(r.boundTokens...) {
		proof := prove(t, token.key, "GET", audience+"/", token.token, s.Clock.Now())
		for _, test := range []struct {
			shown shown
			good  bool
		}{
			{shown{"Bearer " + token.token, ""}, false},
			{shown{"DPoP " + token.token, prove(t, other, "GET", audience+"/", token.token, s.Clock.Now())}, false},
			{shown{"DPoP " + token.token, proof}, true},
			{shown{"DPoP " + token.token, proof}, false},
		} {
			if err := show(&worker{}, test.shown); (err == nil) != test.good {
				t.Errorf("a bound token as %.6s: %v", test.shown.authorization, err)
			}
		}
	}
}

func TestUnseenShowsEachTokenOnce(t *testing.T) {
	r := &trial{workers: 2, limit: limit{operations: 100}, tokens: [][]held{{{token: "a"}, {token: "b"}, {token: "c"}}, {{token: "d"}}}}
	var shown [2][]held
	got := r.load(t.Context(), endpoint{}, unseen(r.tokens, func(w *worker, token held) error {
		shown[w.number] = append(shown[w.number], token)
		return nil
	}))
	if diff := cmp.Diff(r.tokens, shown[:], cmp.AllowUnexported(held{})); diff != "" || got.operations != 4 {
		t.Errorf("%d operations; (-want +got)\n%s", got.operations, diff)
	}
	here := r.here()
	if n := len(slices.Concat(here.tokens...)); n != 4 || len(here.tokens) != here.workers {
		t.Errorf("%d tokens were dealt to %d workers of %d", n, len(here.tokens), here.workers)
	}
}

func TestLoginThatIsRefused(t *testing.T) {
	s := authztest.New(t)
	_, err := login(t.Context(), s.URL, "spa", username, authztest.Password)
	if err == nil || strings.Contains(err.Error(), authztest.Password) {
		t.Errorf("a login with an unregistered redirect URI: %v", err)
	}
}

// TestRun measures the real server, started as its own process.
func TestRun(t *testing.T) {
	program := filepath.Join(t.TempDir(), "solegate")
	build(t, program)
	for _, test := range []struct {
		args  []string
		lines []string // expressions that the output must match
	}{
		{
			[]string{"--requests", "60", "--workers", "3", "--grants", "6"},
			[]string{
				`(?m)^bare handler +60 +\d+ .* 0 `, `(?m)^code exchange +\d+ +\d+ .* 0 .*≥ 6 %`,
				`(?m)^refresh with rotation +60 .* 0 .*≥ 9 %`,
				`(?m)^code exchange with DPoP +\d+ .* 0 `, `(?m)^refresh with DPoP +60 .* 0 `,
				`(?m)^middleware, DPoP, new token +\d+ .* 0 `, `(?m)^middleware, DPoP, seen token +\d+ .* 0 `,
				`(?m)^API, new token +\d+ .* 0 `, `(?m)^API, seen token +60 .* 0 `, `(?m)^middleware, new token +\d+ .* 0 `,
			},
		},
		{
			[]string{"--memory", "--requests", "50", "--workers", "3", "--grants", "6"},
			[]string{`(?m)^ +0 .*MiB +\d+\.\d MiB$`, `(?m)^ +10 +\d+ `, `(?m)^ +50 +\d+ `},
		},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"--server", program}, test.args...), strings.NewReader(""), &stdout, &stderr)
		if code != 0 || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", test.args, code, &stderr)
		}
		for _, line := range test.lines {
			if !regexp.MustCompile(line).Match(stdout.Bytes()) {
				t.Errorf("%s: no line like %s in\n%s", test.args, line, &stdout)
			}
		}
	}
	wantAlone(t, program)

	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	if code := run(ctx, []string{"--server", program, "--duration", "100ms"}, strings.NewReader(""), watcher{"JWKS", cancel}, &stderr); code != 1 || stderr.String() != "loadtest: interrupted\n" {
		t.Errorf("interrupted: exit code %d, %s", code, &stderr)
	}
	wantAlone(t, program)
}

// watcher calls do when the text is written.
type watcher struct {
	text string
	do   func()
}

func (w watcher) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.do()
	}
	return len(p), nil
}

// build builds the server as this test was built, so that what is in the
// build cache is used.
func build(t *testing.T, program string) {
	t.Helper()
	args := []string{"build", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "github.com/solegate/solegate/cmd/solegate")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the server does not build: %v\n%s", err, out)
	}
}

// wantAlone checks that nothing was left beside the program.
func wantAlone(t *testing.T, program string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(program))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
