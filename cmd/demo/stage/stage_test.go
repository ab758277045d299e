package stage

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/login/password"
)

// quick makes hashes cheap: what they cost is not tested here.
var quick = password.Params{Memory: 64, Time: 1, Threads: 1}

// files is a folder with an app that consists of one page.
func files(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "index.html"), "the app")
	return folder
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b), r.Header
}

func TestTheCopyIsTheSameBytesAtAnotherOrigin(t *testing.T) {
	s, err := Start(t.Context(), Config{Folder: t.TempDir(), Files: files(t), Password: quick})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.SPAURL == s.CopyURL {
		t.Fatalf("the app and its copy are both at %s", s.SPAURL)
	}
	for _, path := range []string{"/", "/callback", "/callback?code=x", "/config.json"} {
		status, app, header := get(t, s.SPAURL+path)
		_, double, _ := get(t, s.CopyURL+path)
		if status != http.StatusOK || app == "" || app != double {
			t.Errorf("%s: status %d, app %q, copy %q; want 200 and the same", path, status, app, double)
		}
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
	}
	if status, _, _ := get(t, s.SPAURL+"/nothing"); status != http.StatusNotFound {
		t.Errorf("a path that is no file: status %d, want 404", status)
	}
	if status, _, _ := get(t, s.APIURL+"/api/notes"); status != http.StatusUnauthorized {
		t.Errorf("the API without a token: status %d, want 401", status)
	}
}

// The server behind the copy is a thief's: it asks the API with what it was
// given. The app's has no such thing.
func TestTheCopysServerReplaysToTheAPI(t *testing.T) {
	s, err := Start(t.Context(), Config{Folder: t.TempDir(), Files: files(t), Password: quick})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	post := func(at, token string) (status int, body string) {
		t.Helper()
		r, err := http.Post(at+"/replay", "text/plain", strings.NewReader(token))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	status, body := post(s.CopyURL, "no-token\n")
	if status != http.StatusOK || strings.Count(body, `"status":401`) != 3 {
		t.Errorf("no token: %d %s, three times 401 expected", status, body)
	}
	if status, body := post(s.CopyURL, "x\r\nHost: evil.example"); status != http.StatusBadRequest {
		t.Errorf("a header in the token: %d %s, 400 expected", status, body)
	}
	if status, body := post(s.CopyURL, strings.Repeat("x", 10<<10)); status != http.StatusBadRequest {
		t.Errorf("10 KiB: %d %s, 400 expected", status, body)
	}
	if status, body := post(s.SPAURL, "x"); strings.Contains(body, "401") || status == http.StatusOK {
		t.Errorf("the app's own server: %d %s", status, body)
	}
}

// A demo that is started again, maybe on other ports, finds its user and
// registers the client and the API at the new origins.
func TestStartsAgainInTheSameFolder(t *testing.T) {
	c := Config{Folder: t.TempDir(), Files: files(t), Password: quick}
	for range 2 {
		s, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		have, err := s.Store.Client(t.Context(), s.Client.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(have.RedirectURIs[0]), s.SPAURL+"/callback"; got != want {
			t.Errorf("redirect URI %s, want %s", got, want)
		}
		rs, err := s.Store.ResourceServer(t.Context(), apiID)
		if err != nil || rs.Audience != s.APIURL {
			t.Errorf("the API is registered as %+v, %v", rs, err)
		}
		if f := s.verifier.FeedState(); !f.Following {
			t.Errorf("the API does not follow the feed: %+v", f)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := net.Dial("tcp", strings.TrimPrefix(s.AuthURL, "http://")); err == nil {
			t.Errorf("%s answers after Close", s.AuthURL)
		}
	}
}

func TestStartSaysInOneLineWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, c *Config)
		want  string
	}{
		{"port taken", func(t *testing.T, c *Config) { c.Ports[2] = taken.Addr().(*net.TCPAddr).Port }, "-port"},
		{"no port", func(t *testing.T, c *Config) { c.Ports[3] = 65536 }, "-port"},
		{"app not built", func(t *testing.T, c *Config) { c.Files = t.TempDir() }, "npm run build"},
		{"folder missing", func(t *testing.T, c *Config) { c.Folder = filepath.Join(c.Folder, "missing") }, "-folder"},
		{"not a master key", func(t *testing.T, c *Config) { write(t, filepath.Join(c.Folder, "master.key"), "nonsense") }, "-folder"},
		{"not a store", func(t *testing.T, c *Config) {
			write(t, filepath.Join(c.Folder, "solegate.db"), strings.Repeat("nonsense", 100))
		}, "-folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Config{Folder: t.TempDir(), Files: files(t), Password: quick}
			test.spoil(t, &c)
			s, err := Start(t.Context(), c)
			if err == nil {
				s.Close()
				t.Fatal("it started")
			}
			if text := err.Error(); !strings.Contains(text, test.want) || strings.Contains(text, "\n") {
				t.Errorf("the error is %q, want one line with %q", text, test.want)
			}
		})
	}
}
