package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage/redis/redistest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"solegate": main})
}

// TestScripts runs the command as one does at a terminal.
func TestScripts(t *testing.T) {
	redis := redistest.Single(t)
	var scripts atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SOLEGATE_PASSWORD_MEMORY", "8192") // quick
			e.Setenv("SOLEGATE_PASSWORD_TIME", "1")
			e.Setenv("LONG", strings.Repeat("long ", 200))
			e.Setenv("PORT", freePort(t))
			e.Setenv("REDIS", fmt.Sprintf("redis://%s?prefix=script%d:", redis.Addr, scripts.Add(1)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitfor": waitFor, "exits": exits, "capture": capture, "misuse": misuses, "signedin": signedIn, "rule": rule, "sql": statement, "takentoken": takenToken(t)},
	})
}

// exits is exec that wants one exit code: exits CODE PROGRAM ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// capture sets a variable to what the group of an expression matches in the
// last command's output: capture NAME EXPRESSION
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME EXPRESSION")
	}
	match := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) != 2 {
		ts.Fatalf("%s does not match, or has not one group", args[1])
	}
	ts.Setenv(args[0], match[1])
}

// statement does to an SQLite file what somebody could who may write it: sql FILE
// STATEMENT
func statement(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	defer db.Close()
	if _, err := db.Exec(args[1]); err != nil {
		ts.Fatalf("%v", err)
	}
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// takenToken signs a user in to the client spa with the tests' password, and writes
// the access token to a file: takentoken ISSUER USER FILE
func takenToken(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 3 {
			ts.Fatalf("usage: takentoken ISSUER USER FILE")
		}
		s := &authztest.Server{TB: t, URL: args[0], Address: args[0]}
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(s.SignIn(args[1], "scope", "openid offline_access").AccessToken+"\n"), 0o600))
	}
}

// waitFor waits until an address answers with 200, and prints the body.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := http.Get(args[0])
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				fmt.Fprintf(ts.Stdout(), "%s", body)
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not answer: %v", args[0], err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestPasswordAtATerminal types at a real terminal: nothing is shown, and the
// two have to be the same.
func TestPasswordAtATerminal(t *testing.T) {
	folder := t.TempDir()
	for name, c := range map[string]struct {
		typed []string
		want  string
		ok    bool
	}{
		"same":  {[]string{"seven green otters sing at dusk", "seven green otters sing at dusk"}, "is added", true},
		"other": {[]string{"seven green otters sing at dusk", "eight green otters sing at dusk"}, "differ", false},
		"weak":  {[]string{"password", "password"}, "15", false},
	} {
		cmd := exec.Command(os.Args[0], "user", "add", "user-"+name, "--store", filepath.Join(folder, "solegate.db"))
		exe, err := exec.LookPath("solegate") // testscript.Main puts it there
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = exe
		cmd.Args[0] = "solegate"
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "SOLEGATE_PASSWORD_MEMORY=8192", "SOLEGATE_PASSWORD_TIME=1")
		terminal, err := pty.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		var shown bytes.Buffer
		read := make([]byte, 1024)
		for _, line := range c.typed {
			for {
				n, err := terminal.Read(read)
				shown.Write(read[:n])
				if err != nil || bytes.HasSuffix(bytes.TrimSpace(shown.Bytes()), []byte(":")) {
					break
				}
			}
			io.WriteString(terminal, line+"\n")
			shown.WriteString("|")
		}
		io.Copy(&shown, terminal)
		err = cmd.Wait()
		terminal.Close()
		if (err == nil) != c.ok || !strings.Contains(shown.String(), c.want) {
			t.Errorf("%s: %v\n%s", name, err, shown.String())
		}
		if strings.Contains(shown.String(), "otters") || strings.Contains(shown.String(), "password\r") {
			t.Errorf("%s: the terminal shows the password:\n%s", name, shown.String())
		}
	}
}

// TestTableInREADME holds the README's table to the settings' own words. Run it
// with SOLEGATE_TEST_UPDATE=1 to write the table.
func TestTableInREADME(t *testing.T) {
	var server, guard strings.Builder
	const head = "| in the file | environment | flag | default | what it is |\n|---|---|---|---|---|\n"
	server.WriteString("<!-- config:begin -->\n" + head)
	guard.WriteString("<!-- guard:begin -->\n" + head)
	var s settings
	for _, l := range leaves(reflect.ValueOf(&s).Elem(), "") {
		key, flag := "`"+l.name+"`", "`--"+l.flag()+"`"
		if l.field.Tag.Get("secret") != "" {
			key, flag = "", ""
		}
		preset := l.field.Tag.Get("default")
		if preset != "" {
			preset = "`" + preset + "`"
		}
		b := &server
		if l.guardOnly() {
			b = &guard
		}
		fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s |\n", key, envName(l.name), flag, preset, l.field.Tag.Get("doc"))
	}
	for _, only := range []struct { // in the file
		in          reflect.Type
		field, name string
	}{
		{reflect.TypeOf(s), "Guard", "guard"}, {reflect.TypeOf(s.Abuse), "Rules", "abuse.rules"}, {reflect.TypeOf(s), "Clients", "clients"},
	} {
		field, _ := only.in.FieldByName(only.field)
		fmt.Fprintf(&server, "| `%s` | | | | %s |\n", only.name, field.Tag.Get("doc"))
	}
	server.WriteString("<!-- config:end -->")
	guard.WriteString("<!-- guard:end -->")
	holdTable(t, filepath.Join("..", "..", "README.md"), "config", server.String())
	holdTable(t, filepath.Join("..", "..", "keys", "verify", "README.md"), "guard", guard.String())
}

// TestAbuseInREADME holds the README's rules, and their table, to what there is.
func TestAbuseInREADME(t *testing.T) {
	table := "<!-- rules:begin -->\n| setting of a rule | what it is |\n|---|---|\n"
	rule := reflect.TypeFor[ruleSettings]()
	for i := range rule.NumField() {
		table += fmt.Sprintf("| `%s` | %s |\n", rule.Field(i).Tag.Get("yaml"), rule.Field(i).Tag.Get("doc"))
	}
	holdTable(t, filepath.Join("..", "..", "README.md"), "rules", table+"<!-- rules:end -->")

	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```yaml\nabuse:\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("there is no YAML of rules in it")
	}
	c := &configuration{file: "solegate.yaml", origin: map[string]string{}}
	c.parse([]byte("abuse:\n" + text))
	p := c.policy()
	if problems := p.Problems(); c.err() != nil || len(problems) > 0 || len(p.Rules) != 3 || !p.DryRun {
		t.Errorf("%v, %v, %+v", c.err(), problems, p)
	}
}

// holdTable holds the part of a file between two marks to a table, or writes it.
func holdTable(t *testing.T, path, mark, want string) {
	t.Helper()
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	marked := regexp.MustCompile(`(?s)<!-- ` + mark + `:begin -->.*<!-- ` + mark + `:end -->`)
	if os.Getenv("SOLEGATE_TEST_UPDATE") != "" {
		if err := os.WriteFile(path, marked.ReplaceAllLiteral(readme, []byte(want)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := marked.Find(readme); string(got) != want {
		t.Errorf("the table in %s is stale; run SOLEGATE_TEST_UPDATE=1 go test ./cmd/solegate -run README, want:\n%s", path, want)
	}
}

// start runs serve with the defaults and what change makes of them, and
// returns the address once it answers. The server stops with the test, and
// must then end well.
func start(t *testing.T, change func(*configuration)) (address string) {
	t.Helper()
	port := freePort(t)
	address = "127.0.0.1:" + port
	ctx, cancel := context.WithCancel(context.Background())
	var stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr}
	c := &configuration{origin: map[string]string{}}
	for _, l := range leaves(reflect.ValueOf(&c.settings).Elem(), "") {
		if preset := l.field.Tag.Get("default"); preset != "" {
			if err := setText(l.value, preset); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Issuer, c.Listen, c.Development, c.Store = "http://"+address, address, true, filepath.Join(t.TempDir(), "solegate.db")
	change(c)
	done := make(chan error, 1)
	go func() {
		done <- a.run(ctx, c)
		close(done) // for the cleanup, when the wait below has taken the error
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v\n%s", err, stderr.String())
		}
	})
	own, err := c.own()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for {
		select {
		case err := <-done:
			t.Fatalf("the server stopped: %v\n%s", err, stderr.String())
		case <-time.After(20 * time.Millisecond):
			if resp, err := client.Get(own.JoinPath("livez").String()); err == nil {
				resp.Body.Close()
				return address
			}
		}
	}
}

// TestLimits: who sends slowly or much is cut off, by the server's own limits.
func TestLimits(t *testing.T) {
	if readHeaderTimeout > 10*time.Second || readTimeout > 30*time.Second || maxHeaderBytes > 64<<10 {
		t.Error("the limits are too wide")
	}
	conn, err := net.Dial("tcp", start(t, func(*configuration) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 40<<10))
	answer, _ := io.ReadAll(conn)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 431")) {
		t.Errorf("40 KiB of headers: %.60s", answer)
	}
}

func TestServesTLS(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	address := start(t, func(c *configuration) { c.TLS.Certificate, c.TLS.Key = certFile, keyFile })
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	get := func(config *tls.Config) (*http.Response, error) {
		config.RootCAs = roots
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
		resp, err := client.Get("https://" + address + "/livez")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := get(&tls.Config{}); err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("HTTP/2 over TLS: %v, %v", resp, err)
	}
	if _, err := get(&tls.Config{MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if _, err := get(&tls.Config{MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	weak := &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}
	if conn, err := tls.Dial("tcp", address, weak); err == nil {
		conn.Close()
		t.Error("a cipher suite is spoken that BCP 195 does not recommend")
	}
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte("issuer: https://a.example\nlifetimes:\n  code: 1m\nclients:\n  - id: a\n    origins: [x]\n"))
	f.Add([]byte("clients:\n  - id: a\n    auth_method: private_key_jwt\n    jwks: {keys: [{kty: OKP, kid: 1, ext: true, x: ~}]}\n"))
	f.Add([]byte("guard:\n  audience: a\n  routes: [GET /a=b, '/{x}']\n  public: [GET /a]\n"))
	f.Add([]byte("a: &b c\nd: *b\n"))
	f.Add([]byte("issuer: [1, 2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &configuration{file: "solegate.yaml", origin: map[string]string{}}
		c.parse(text)
		c.check()
		c.err()
	})
}
