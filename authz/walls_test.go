package authz_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/solegate/solegate/"

// walls says who alone may import what, and why. A package ends with /... for
// itself and all below it.
var walls = []struct{ imported, by, reason string }{
	{"github.com/ory/fosite/...", "authz/provider", "the engine is replaceable as long as one package knows it"},
	{"modernc.org/sqlite/...", "storage/sqlite", "a backend is one package"},
	{"html/template", "authz/pages", "one place escapes what people see"},
	{"golang.org/x/crypto/argon2", "authz/login/password", "one place hashes passwords"},
	{"github.com/spf13/cobra", "cmd/solegate", "the command line is not the product"},
	{"github.com/goccy/go-yaml/...", "cmd/solegate", "the configuration file is not the product"},
	{module + "storage/sqlite", "cmd/...", "only main names a backend"},
	{module + "storage/redis", "cmd/...", "only main names a backend"},
	{module + "storage/transfer", "cmd/solegate", "an operator moves a store, a server never does"},
	{"github.com/redis/go-redis/v9/...", "storage/redis/...", "a backend is one package"},
	{module + "storage/storagetest", "", "it is for tests"},
	{module + "storage/redis/redistest", "", "it is for tests"},
	{module + "authz/authztest", "", "it is for tests"},
	{module + "cmd/...", "cmd/...", "nothing depends on a command"},
	{module + "authz/abuse", "authz/... cmd/...", "who ends things knows nothing of why"},
	{module + "authz/login", "authz cmd/solegate", "the endpoints decide when somebody logs in; the command line knows what a user name is"},
	{module + "authz/provider", "authz", "tokens are made by the endpoints alone"},
	{module + "authz/admin", "authz cmd/solegate", "operators come by the server's doors; the command line shows the same shapes"},
	{module + "authz/backchannel", "authz cmd/solegate", "who ends things knows nothing of who is told"},
	{"github.com/go-jose/go-jose/v3", "authz/provider", "it is the engine's; all else is on v4"},
	{module + "keys/verify", "keys/verify/... cmd/...", "it is the API's side: of it the server shares the proofs alone"},
	{module + "keys/verify/verifytest", "", "it is for tests"},
}

// floors are packages that import nothing of ours but what is listed.
var floors = map[string]string{
	"authz/oauth":          "",
	"authz/pages":          "",
	"clients":              "",
	"storage":              "clients",
	"keys":                 "storage",
	"authz/abuse":          "authz/audit authz/revocation authz/throttle clients keys/verify/reports storage",
	"authz/admin":          "authz/abuse authz/audit authz/revocation clients keys storage",
	"authz/audit":          "clients storage",
	"authz/throttle":       "storage",
	"authz/feed":           "keys/verify/feed storage",
	"authz/statuslist":     "clients storage",
	"keys/verify/feed":     "keys/verify/internal/strict",
	"authz/revocation":     "authz/audit clients keys keys/verify/feed storage",
	"authz/backchannel":    "authz/audit authz/revocation clients keys storage",
	"authz/provider":       "authz/audit authz/oauth authz/revocation authz/statuslist clients keys storage",
	"authz/login":          "authz/audit authz/login/password authz/pages authz/revocation authz/throttle clients storage",
	"authz/login/password": "",
	"storage/record":       "clients storage",
	"storage/sqlite":       "clients storage storage/record",
	"storage/redis":        "clients storage storage/record",
	"storage/transfer":     "clients storage",

	"keys/verify":                 "keys/verify/dpop keys/verify/feed keys/verify/reports keys/verify/internal/strict",
	"keys/verify/dpop":            "keys/verify/internal/strict",
	"keys/verify/guard":           "keys/verify keys/verify/dpop",
	"keys/verify/reports":         "keys/verify/dpop keys/verify/internal/strict",
	"keys/verify/internal/strict": "",
}

func TestWalls(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for decoder.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "authz/authztest" || name == "storage/storagetest" || name == "storage/redis/redistest" {
			continue // they are for tests, and may see everything
		}
		for _, imported := range p.Imports {
			for _, w := range walls {
				if within(imported, w.imported) && !within(name, w.by) && !within(p.ImportPath, w.imported) {
					t.Errorf("%s imports %s, which only %q may: %s", name, imported, w.by, w.reason)
				}
			}
			if allowed, ok := floors[name]; ok {
				if ours, found := strings.CutPrefix(imported, module); found && !strings.Contains(" "+allowed+" ", " "+ours+" ") {
					t.Errorf("%s imports %s; of ours it may import %q", name, ours, allowed)
				}
			}
		}
	}
}

// within reports whether a path is one of the patterns, with spaces between.
func within(path, patterns string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool { return matches(path, p) })
}

func matches(path, pattern string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}
