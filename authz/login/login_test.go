package login

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

func TestNormalizeName(t *testing.T) {
	for name, want := range map[string]string{
		"alice": "alice", "ALICE": "alice", "ａｌｉｃｅ": "alice", "al.ice-1_x@example.com": "al.ice-1_x@example.com", "Ülkü": "ülkü",
	} {
		if got, err := NormalizeName(name); err != nil || got != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "a b", "a\x00", "a\nb", "\xff", "\u200bx", "a\u202eb", strings.Repeat("x", 300)} {
		if got, err := NormalizeName(name); err == nil {
			t.Errorf("%q became %q", name, got)
		}
	}
	cyrillic, err := NormalizeName("аlice")
	if err == nil && cyrillic == "alice" {
		t.Error("a look-alike is taken for the name itself")
	}
}

func FuzzNormalizeName(f *testing.F) {
	f.Add("Alice")
	f.Fuzz(func(t *testing.T, name string) {
		if got, err := NormalizeName(name); err == nil {
			if again, err := NormalizeName(got); err != nil || again != got {
				t.Errorf("%q becomes %q, which becomes %q (%v)", name, got, again, err)
			}
		}
	})
}

func FuzzSessionCookie(f *testing.F) {
	l := &Login{cookies: namesFor(false)}
	f.Add("id." + strings.Repeat("A", 43))
	f.Add("..")
	f.Fuzz(func(t *testing.T, value string) {
		r := &http.Request{Header: http.Header{"Cookie": {"__Host-solegate-session=" + value}}}
		if id, secret, ok := l.sessionCookie(r); ok && (id == storage.SessionID("") || len(secret) != 32) {
			t.Errorf("%q was taken for a session", value)
		}
	})
}

// The longest request that the authorization endpoint lets through still fits
// into a URL that every browser and proxy takes.
func TestPendingFitsIntoAURL(t *testing.T) {
	var sealed []byte
	l := &Login{Config: Config{Seal: func(_ string, plain []byte) string { sealed = plain; return "" }}}
	p := Pending{
		Parameters: url.Values{"state": {strings.Repeat("<", 1024)}, "nonce": {strings.Repeat("<", 512)}, "login_hint": {strings.Repeat("<", 4096)}},
		LoginHint:  strings.Repeat("<", 4096),
	}
	if _, err := l.sealPending(loginPurpose, "browser", p); err != nil {
		t.Fatal(err)
	}
	if len(sealed) > 3000 || !strings.Contains(string(sealed), p.Parameters.Get("state")) || len(p.Parameters["login_hint"]) != 1 {
		t.Errorf("%d bytes to seal: %s", len(sealed), sealed)
	}
	p.LoginHint = "alice"
	p.Parameters.Set("login_hint", "alice")
	if _, err := l.sealPending(loginPurpose, "browser", p); err != nil || strings.Count(string(sealed), `"alice"`) != 2 {
		t.Errorf("a hint that names somebody is gone: %s, %v", sealed, err)
	}
}

func TestSecondCookieIsRefused(t *testing.T) {
	l := &Login{cookies: namesFor(false)}
	good := "__Host-solegate-session=id." + strings.Repeat("A", 43)
	r := &http.Request{Header: http.Header{"Cookie": {good}}}
	if _, _, ok := l.sessionCookie(r); !ok {
		t.Fatal("the cookie is not read")
	}
	r.Header.Add("Cookie", "__Host-solegate-session=other."+strings.Repeat("A", 43))
	if _, _, ok := l.sessionCookie(r); ok {
		t.Error("one of two cookies was chosen")
	}
}

// TestSessionOfAnotherEpochIsNotRenewed: somebody signs in with the old password
// in a browser whose session is of the time after the change. The new session is
// of the old epoch, and dead; the other one stays what it was.
func TestSessionOfAnotherEpochIsNotRenewed(t *testing.T) {
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	l := &Login{cookies: namesFor(true), Config: Config{
		Store: store, Now: func() time.Time { return now }, Rand: rand.Reader, SessionIdle: time.Hour, SessionLife: time.Hour,
		Address: func(*http.Request) netip.Addr { return netip.IPv6Loopback() },
	}}
	u := storage.User{ID: "u", Name: "alice", Epoch: 1}
	if err := store.CreateUser(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	start := func(browser *http.Request, u storage.User) (storage.Session, *http.Request) {
		t.Helper()
		w := httptest.NewRecorder()
		s, err := l.start(t.Context(), w, browser, u, now)
		if err != nil {
			t.Fatal(err)
		}
		next := httptest.NewRequest("GET", "/", nil)
		for _, c := range w.Result().Cookies() {
			next.AddCookie(c)
		}
		return s, next
	}
	first, browser := start(httptest.NewRequest("GET", "/", nil), u)
	again, browser := start(browser, u)
	if s, _, err := l.Current(browser); err != nil || again.ID != first.ID || s.ID != first.ID {
		t.Fatalf("the same person again: %s, %s before, %v", again.ID, first.ID, err)
	}

	before := u
	before.Epoch = 0 // as it was read before the password was changed
	late, _ := start(browser, before)
	if s, _, err := l.Current(browser); err != nil || late.ID == first.ID || s.Epoch != 1 {
		t.Errorf("the session is %+v, %v; the one of the old password %s", s, err, late.ID)
	}
	if s, u, err := store.SessionUser(t.Context(), late.ID); err != nil || revocation.SessionLive(s, u, now) == nil {
		t.Errorf("the session of the old password lives: %+v, %v", s, err)
	}
}
