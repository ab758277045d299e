package admin_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// TestWhatIsNotUnderstoodChangesNothing: it is refused with what was expected,
// and nothing of it comes back.
func TestWhatIsNotUnderstoodChangesNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.User("alice")
	path := "/admin/users/" + string(alice.ID)
	other := w.AddUser("bob").ID
	w.SignIn("bob")
	sessions, err := w.Store.ListSessions(t.Context(), other, storage.Page{Limit: 1})
	check(t, err)
	check(t, w.Store.CreateClient(t.Context(), clients.Client{ID: "declared", Declared: true}))
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		headers            []string
	}{
		"an unknown member":         {"POST", path + "/block", `{"reason":"marker","force":"true"}`, 400, nil},
		"a member of another case":  {"POST", path + "/block", `{"Reason":"marker"}`, 400, nil},
		"a member twice":            {"POST", path + "/block", `{"reason":"a","reason":"marker"}`, 400, nil},
		"a number":                  {"POST", path + "/block", `{"reason":1}`, 400, nil},
		"null":                      {"POST", path + "/block", `{"until":null}`, 400, nil},
		"an object in it":           {"POST", path + "/block", `{"reason":{"reason":"marker"}}`, 400, nil},
		"no object":                 {"POST", path + "/block", `["reason"]`, 400, nil},
		"two objects":               {"POST", path + "/block", `{}{}`, 400, nil},
		"half an object":            {"POST", path + "/block", `{"reason":"marker"`, 400, nil},
		"not UTF-8":                 {"POST", path + "/block", "{\"reason\":\"\xff\"}", 400, nil},
		"an escape that is no rune": {"POST", path + "/block", `{"reason":"\ud800"}`, 400, nil},
		"a line break":              {"POST", path + "/block", `{"reason":"a\naudit=true"}`, 400, nil},
		"an empty reason":           {"POST", path + "/block", `{"reason":" "}`, 400, nil},
		"a long reason":             {"POST", path + "/block", `{"reason":"` + strings.Repeat("x", 201) + `"}`, 400, nil},
		"a body for none":           {"POST", path + "/unblock", `{"reason":"x"}`, 400, nil},
		"both ends":                 {"POST", path + "/block", `{"for":"1h","until":"2030-01-01T00:00:00Z"}`, 400, nil},
		"a time that was":           {"POST", path + "/block", `{"until":"2020-01-01T00:00:00Z"}`, 400, nil},
		"no time":                   {"POST", path + "/block", `{"until":"tomorrow"}`, 400, nil},
		"a negative length":         {"POST", path + "/block", `{"for":"-1h"}`, 400, nil},
		"the longest length":        {"POST", path + "/block", `{"for":"2562047h"}`, 400, nil},
		"no length":                 {"POST", path + "/block", `{"for":"1"}`, 400, nil},
		"a form":                    {"POST", path + "/block", "reason=marker", 415, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"plain text":                {"POST", path + "/block", "{}", 415, []string{"Content-Type", "text/plain"}},
		"a large body":              {"POST", path + "/block", `{"reason":"` + strings.Repeat("x", 5000) + `"}`, 413, nil},
		"an unknown parameter":      {"POST", path + "/block?reason=marker", "", 400, nil},
		"a parameter twice":         {"GET", "/admin/users?limit=1&limit=2", "", 400, nil},
		"no limit":                  {"GET", "/admin/users?limit=0", "", 400, nil},
		"a large limit":             {"GET", "/admin/users?limit=1001", "", 400, nil},
		"half an escape":            {"GET", "/admin/users?after=%zz", "", 400, nil},
		"a NUL":                     {"GET", "/admin/users?after=%00", "", 400, nil},
		"a long parameter":          {"GET", "/admin/users?after=" + strings.Repeat("x", 600), "", 400, nil},
		"nobody":                    {"GET", "/admin/users/nobody", "", 404, nil},
		"nobody blocked":            {"POST", "/admin/users/nobody/block", "", 404, nil},
		"nobody's sessions":         {"GET", "/admin/users/nobody/sessions", "", 404, nil},
		"no identifier":             {"GET", "/admin/users/a%20b", "", 404, nil},
		"a braced identifier":       {"GET", "/admin/users/%7Ba%7D", "", 404, nil},
		"a slash in it":             {"GET", "/admin/users/a%2Fb", "", 404, nil},
		"another's session":         {"POST", path + "/sessions/" + string(sessions[0].ID) + "/end", "", 404, nil},
		"no session":                {"POST", path + "/sessions/" + string(alice.ID) + ".x/end", "", 404, nil},
		"no client":                 {"GET", "/admin/clients/none", "", 404, nil},
		"no client disabled":        {"POST", "/admin/clients/none/disable", "", 404, nil},
		"neither true nor false":    {"GET", "/admin/cases?all=1", "", 400, nil},
		"no case":                   {"GET", "/admin/cases/" + string(alice.ID), "", 404, nil},
		"no case dismissed":         {"POST", "/admin/cases/" + string(alice.ID) + "/dismiss", "", 404, nil},
		"no key":                    {"POST", "/admin/keys/none/revoke", "", 404, nil},
		"no path":                   {"GET", "/admin/passwords", "", 404, nil},
		"the root":                  {"GET", "/admin", "", 404, nil},
		"a path that is not clean":  {"POST", "/admin/x/.." + path[len("/admin"):] + "/block", "", 404, nil},
		"another method":            {"DELETE", path, "", 405, nil},
		"a read by POST":            {"POST", path, "", 405, nil},
		"an act by GET":             {"GET", path + "/block", "", 405, nil},
		"a method that is none":     {"BLOCK", path, "", 405, nil},
		"a declared client":         {"POST", "/admin/clients/declared/disable", "", 409, nil},
	} {
		got := w.send(c.method, c.path, c.body, c.headers...)
		if got.status != c.status || strings.Contains(got.text, "marker") {
			t.Errorf("%s: %d %s, expected is %d", name, got.status, got.text, c.status)
		}
		if got.status == 405 && got.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", name)
		}
	}
	if now := w.User("alice"); now.Version != alice.Version {
		t.Errorf("alice is changed: %+v", now)
	}
	if c, err := w.Store.Client(t.Context(), "declared"); err != nil || c.Disabled {
		t.Errorf("the declared client is %+v, %v", c, err)
	}
	if again, err := w.Store.ListSessions(t.Context(), other, storage.Page{Limit: 1}); err != nil || !again[0].EndedAt.IsZero() {
		t.Errorf("bob's session is %+v, %v", again, err)
	}
	w.must("POST", path+"/block", `{"reason":"`+strings.Repeat("ü", 200)+`"}`)
}

func FuzzBody(f *testing.F) {
	known := []string{"reason", "until", "for"}
	for _, seed := range []string{`{}`, `{"reason":"x","for":"1h"}`, `{"reason":"x","reason":"y"}`, `{"Reason":"x"}`, `{"a":{"b":[]}}`, `[]`, `{}{}`, `{"reason":"\ud800"}`, "{\"reason\":\"\xff\"}", `{"reason"`, `{"reason":1e999}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := admin.ParseBody(body, known)
		if err != nil {
			if len(members) > 0 || len(body) > 100 && strings.Contains(err.Error(), string(body)) {
				t.Errorf("%q: %v %v", body, members, err)
			}
			return
		}
		// Whatever is understood here, every reader of JSON understands so.
		var same map[string]string
		if len(body) > 0 {
			if err := json.Unmarshal(body, &same); err != nil || len(same) != len(members) {
				t.Errorf("%q: %v, and encoding/json: %v %v", body, members, same, err)
			}
		}
		for name, value := range members {
			if !slices.Contains(known, name) || same[name] != value {
				t.Errorf("%q: %q is %q", body, name, value)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "after=a&limit=1", "after=a&after=b", "after=%zz", "a;b", "limit=%00", "after=%ff", "=", "&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := admin.ParseQuery(raw, []string{"after", "limit"})
		if err != nil && q != nil {
			t.Errorf("%q: %v %v", raw, q, err)
		}
		for name, values := range q {
			if name != "after" && name != "limit" || len(values) != 1 || strings.ContainsRune(values[0], 0) {
				t.Errorf("%q: %q is %q", raw, name, values)
			}
		}
	})
}
