package pages_test

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/pages"
)

var update = flag.Bool("update", false, "write the golden files")

const payload = `"><script>alert(1)</script>&'`

func TestGolden(t *testing.T) {
	p := pages.New()
	for name, page := range map[string]any{
		"login":         pages.Login{ClientName: "Orders", Request: "request", Token: "token"},
		"login-problem": pages.Login{ClientName: payload, Request: payload, Token: payload, Username: payload, Problem: payload},
		"consent":       pages.Consent{ClientName: "Orders", Username: "alice", Scopes: []pages.Scope{{Text: "know that it is you"}, {Name: "orders:read", Text: "use the permission"}}, Request: "request", Token: "token"},
		"logout":        pages.Logout{ClientName: payload, Request: "request", Token: "token"},
		"loggedout":     pages.LoggedOut{},
		"error":         pages.Error{Title: payload, Text: "Text.", RequestID: "id"},
		"index":         pages.Index{Issuer: "https://login.example.com"},
	} {
		rec := httptest.NewRecorder()
		p.Write(rec, pages.Headers{Secure: true, FormAction: "https://spa.example.com"}, 200, page)
		got := rec.Body.String()
		if strings.Contains(got, "<script") {
			t.Errorf("%s: markup got through", name)
		}
		if strings.Contains(strings.ToLower(got), "javascript:") || strings.Contains(got, " style=") || strings.Contains(got, " on") && regexp.MustCompile(` on[a-z]+=`).MatchString(got) {
			t.Errorf("%s: something that the policy forbids", name)
		}
		path := filepath.Join("testdata", name+".html")
		// The assets' names hold hashes, which change with their content.
		got = regexp.MustCompile(`-[0-9a-f]{16}\.`).ReplaceAllString(got, "-HASH.")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s; look at it, then run the test with -update:\n%s", name, path, got)
		}
	}
}

func TestHeaders(t *testing.T) {
	rec := httptest.NewRecorder()
	pages.New().Write(rec, pages.Headers{Secure: true, FormAction: "https://spa.example.com"}, 200, pages.LoggedOut{})
	for name, want := range map[string]string{
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' https://spa.example.com; base-uri 'none'; frame-ancestors 'none'",
		"X-Frame-Options":              "DENY",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "no-referrer",
		"X-Content-Type-Options":       "nosniff",
		"Cache-Control":                "no-store",
		"Strict-Transport-Security":    "max-age=31536000",
	} {
		if got := rec.Header().Get(name); got != want {
			t.Errorf("%s is %q, %q expected", name, got, want)
		}
	}
}

func TestAssets(t *testing.T) {
	p := pages.New()
	rec := httptest.NewRecorder()
	p.Write(rec, pages.Headers{}, 200, pages.Index{})
	for _, m := range regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(rec.Body.String(), -1) {
		got := httptest.NewRecorder()
		p.ServeHTTP(got, httptest.NewRequest("GET", m[1], nil))
		if got.Code != 200 || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d", m[1], got.Code)
		}
	}
	got := httptest.NewRecorder()
	p.ServeHTTP(got, httptest.NewRequest("GET", "/assets/../pages.go", nil))
	if got.Code != 404 {
		t.Errorf("another file: %d", got.Code)
	}
}
