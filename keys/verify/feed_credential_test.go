package verify_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// TestCredentialGoesNowhereElse: not to where a redirect or the metadata says.
func TestCredentialGoesNowhereElse(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
	}))
	defer elsewhere.Close()
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request, self string){
		"redirect": func(w http.ResponseWriter, r *http.Request, self string) {
			if r.Method == "POST" {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"issuer": self, "jwks_uri": self + "/jwks", feed.MetadataName: self + "/feed"})
		},
		"metadata": func(w http.ResponseWriter, _ *http.Request, self string) {
			json.NewEncoder(w).Encode(map[string]any{"issuer": self, "jwks_uri": self + "/jwks", feed.MetadataName: elsewhere.URL + "/feed", "introspection_endpoint": elsewhere.URL})
		},
		"user": func(w http.ResponseWriter, _ *http.Request, self string) {
			json.NewEncoder(w).Encode(map[string]any{"issuer": self, "jwks_uri": self + "/jwks", feed.MetadataName: strings.Replace(self, "://", "://a@", 1) + "/feed"})
		},
		"none": func(w http.ResponseWriter, _ *http.Request, self string) {
			json.NewEncoder(w).Encode(map[string]any{"issuer": self, "jwks_uri": self + "/jwks"})
		},
	} {
		self := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			answer(w, r, self)
		}))
		defer server.Close()
		self = server.URL
		v, err := verify.New(t.Context(), verify.Config{
			Issuer: self, Audience: audience, Development: true, Credential: &verify.Credential{ID: "api", Secret: "s"}, Feed: &verify.Feed{WhenStale: verify.Introspect},
			Client: http.DefaultClient, // which follows redirects
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := v.FeedState(); s.LastError == "" || s.Following {
			t.Errorf("%s: %+v", name, s)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked != 0 {
		t.Errorf("somebody else was asked %d times", asked)
	}
}

// TestWrongCredential says what to do.
func TestWrongCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer, func(c *verify.Config) { c.Credential.Secret = "a wrong secret" })
		if err := f.v.Ready(); err == nil || !strings.Contains(err.Error(), "Config.Credential") || strings.Contains(err.Error()+f.log.String(), "a wrong secret") {
			t.Errorf("ready: %v", err)
		}
	})
}
