package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/abuse"
)

// shape is what --json answers: an object with these fields, a list, or an
// object on each line.
type shape struct {
	list, lines bool
	fields      []string
}

// documented reads the table of the README.
func documented(t *testing.T) map[string]shape {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "<!-- json:begin -->\n")
	table, _, found := strings.Cut(table, "<!-- json:end -->")
	if !found {
		t.Fatal("the README has no table between <!-- json:begin --> and <!-- json:end -->")
	}
	quoted := func(cell string) (list []string) {
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			list = append(list, match[1])
		}
		return list
	}
	shapes := map[string]shape{}
	var above []string
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			t.Fatalf("%q is no row of two cells", line)
		}
		fields := quoted(cells[2])
		if strings.Contains(cells[2], "a list of these") {
			fields = above
		}
		above = fields
		for _, command := range quoted(cells[1]) {
			shapes[command] = shape{strings.Contains(cells[2], "a list of"), strings.Contains(cells[2], "on each line"), fields}
		}
	}
	return shapes
}

// TestJSONInREADME runs every command with --json and holds the answer to the
// README's table. A new command belongs there, and here.
func TestJSONInREADME(t *testing.T) {
	address := start(t, func(*configuration) {})
	shapes := documented(t)
	t.Chdir(t.TempDir())
	answered := map[string]bool{}
	// run runs a command, and returns a field of the answer.
	run := func(command, stdin, field string, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr,
			environ: []string{"SOLEGATE_DEVELOPMENT=true", "SOLEGATE_PASSWORD_MEMORY=8192", "SOLEGATE_PASSWORD_TIME=1", "SOLEGATE_ISSUER=http://127.0.0.1:8080"}}
		root := a.root()
		root.SetArgs(append(append(strings.Fields(command), args...), "--json"))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, stderr.String())
		}
		answered[command] = true
		want, ok := shapes[command]
		if !ok {
			t.Errorf("%s is not in the README's table", command)
		}
		var object map[string]any
		var list []any
		answer := stdout.Bytes()
		if want.lines {
			answer, _, _ = bytes.Cut(answer, []byte("\n"))
		}
		if want.list {
			if err := json.Unmarshal(stdout.Bytes(), &list); err != nil {
				t.Errorf("%s: a list expected: %v\n%s", command, err, stdout.String())
			}
			if len(list) > 0 {
				object, _ = list[0].(map[string]any)
			}
		} else if err := json.Unmarshal(answer, &object); err != nil {
			t.Errorf("%s: an object expected: %v\n%s", command, err, stdout.String())
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if !slices.Contains(want.fields, name) {
				t.Errorf("%s answers with a field %q, which is not in the README's table", command, name)
			}
		}
		text, _ := object[field].(string)
		return text
	}
	const jwks = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}` // RFC 8037 appendix A.2
	const secret = "seven green otters sing at dusk"

	client := run("client register", "", "id", "--redirect-uri", "http://localhost:3000/cb", "--post-logout-redirect-uri", "http://localhost:3000/",
		"--origin", "http://localhost:3000", "--audience", "http://localhost:4000", "--consent", "--refresh-id-token",
		"--access-token-life", "1m", "--refresh-idle", "1h", "--refresh-life", "2h")
	run("client list", "", "")
	run("client update", "", "", client, "--name", "Orders")
	run("client disable", "", "", client)
	run("client show", "", "", client)
	run("client enable", "", "", client)
	backend := run("client register", "", "id", "--auth-method", "client_secret_basic", "--redirect-uri", "http://localhost:3000/cb", "--audience", "http://localhost:4000",
		"--grant-type", "authorization_code", "--require-par", "--require-dpop", "--require-dpop-nonce", "--optional-pkce", "--backchannel-logout-uri", "http://localhost:3000/out")
	run("client rotate-secret", "", "", backend)
	run("client update", jwks, "", backend, "--auth-method", "private_key_jwt", "--jwks", "-", "--profile", "hardened")
	run("client remove", "", "", backend)
	resource := run("resource register", "", "id", "--audience", "http://localhost:4000", "--name", "Orders")
	run("resource rotate-secret", "", "", resource)
	run("resource update", jwks, "", resource, "--auth-method", "private_key_jwt", "--jwks", "-")
	run("resource disable", "", "", resource)
	run("resource enable", "", "", resource)
	run("resource show", "", "", resource)
	run("resource list", "", "")
	run("user add", secret, "", "alice", "--email", "alice@example.com", "--display-name", "Alice")
	run("user admin", "", "", "alice")
	run("user block", "", "", "alice")
	run("user show", "", "", "alice")
	run("user list", "", "")
	run("user unblock", "", "", "alice")
	signIn(t, "solegate.db", "alice", "s1", "spa", "Browser/1.0")
	run("user sessions", "", "", "alice")
	run("user end-session", "", "", "alice", string(userNamed(t, "solegate.db", "alice").ID)+".s1")
	run("user revoke", "", "", "alice")
	run("user set-password", secret, "", "alice")
	if err := misuse(t.Context(), "solegate.db", abuse.Policy{Rules: []abuse.Rule{{Name: "r", Count: 3, Within: time.Hour, Action: abuse.Tell}, {Name: "s", Count: 9, Within: time.Hour, Action: abuse.Suspend}}}, "alice", 5); err != nil {
		t.Fatal(err)
	}
	run("abuse list", "", "")
	run("abuse show", "", "", "alice")
	run("abuse dismiss", "", "", "alice")
	key := run("key list", "", "kid")
	run("key rotate", "", "")
	run("key revoke", "", "", key)
	run("key reseal", "", "")
	run("key generate-master", "", "")
	run("token status", "no token", "")
	run("config check", "", "")
	run("config show", "", "")
	run("revoke", "", "", "--all")
	run("audit list", "", "", "--user", "alice")
	run("audit follow", "", "", "--limit", "3")
	run("audit verify", "", "")
	run("store check", "", "")
	run("store migrate", "", "", "--from", "solegate.db", "--to", "copy.db")
	run("backup", "", "", "all.backup")
	run("restore", "", "", "all.backup", "--store", "restored.db", "--master-key-file", "master.key")
	run("user remove", "", "", "alice")
	run("resource remove", "", "", resource)
	run("client remove", "", "", client)
	run("healthcheck", "", "", "--listen", address)
	run("version", "", "")

	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "solegate ")
		if !cmd.HasSubCommands() && name != "serve" && name != "guard" && !answered[name] {
			t.Errorf("%s: run it here, and write its answer into the README's table", name)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(new(app).root())
	for command := range shapes {
		if !answered[command] {
			t.Errorf("the README's table has %q, which is no command", command)
		}
	}
}
