package notes_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/example/notes"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// TestDeletingAllNeedsAFreshLogin is the sample's step-up, over real HTTP and
// with a token that is bound to a key.
func TestDeletingAllNeedsAFreshLogin(t *testing.T) {
	issuer := verifytest.New(t)
	var api http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { api.ServeHTTP(w, r) }))
	defer server.Close()
	v, err := verify.New(t.Context(), verify.Config{Issuer: issuer.URL, Audience: server.URL, Development: true, RequireDPoP: true})
	if err != nil {
		t.Fatal(err)
	}
	api = notes.Handler(v)
	key := verifytest.NewKey(t)
	call := func(method, body string, login time.Time) (int, string, string) {
		t.Helper()
		token := issuer.BoundToken(key, map[string]any{"aud": server.URL, "scope": "notes:read notes:write", "auth_time": login.Unix()})
		address := server.URL + "/api/notes"
		r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		key.Authorize(r, address, token, nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer), resp.Header.Get("WWW-Authenticate")
	}
	now, morning := time.Now(), time.Now().Add(-5*time.Hour)
	if status, body, _ := call("POST", `{"text":"milk"}`, morning); status != 201 {
		t.Fatalf("adding: %d %s", status, body)
	}
	if status, _, challenge := call("DELETE", "", morning); status != 401 || !strings.HasPrefix(challenge, "DPoP ") || !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="60"`) {
		t.Errorf("deleting with the morning's login: %d %q", status, challenge)
	}
	if _, body, _ := call("GET", "", morning); !strings.Contains(body, "milk") {
		t.Errorf("the notes are gone: %s", body)
	}
	if status, body, _ := call("DELETE", "", now); status != 204 {
		t.Errorf("deleting with a fresh login: %d %s", status, body)
	}
	if _, body, _ := call("GET", "", morning); !strings.Contains(body, `"notes":[]`) {
		t.Errorf("the notes are still there: %s", body)
	}
}
