package attacks

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys"
)

// G40, as far as there is something to administer over the network: there is
// nothing.
func TestG40NoAdministrationOverTheNetwork(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	for _, path := range []string{"/admin", "/admin/", "/admin/users", "/console", "/debug/pprof/", "/debug/vars", "/debug/requests", "/debug/events", "/metrics", "/clients", "/users", "/register", "/.env", "/solegate.db"} {
		for _, method := range []string{"GET", "POST"} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
			check(t, err)
			r.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
			resp, err := http.DefaultClient.Do(r)
			check(t, err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, resp.StatusCode)
			}
		}
	}
}

func TestG41StolenDatabase(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	code := b.Code("alice")
	tokens := s.Redeem(code)
	next := s.Refresh(tokens.RefreshToken)
	unused := b.Code("alice")
	u, _ := url.Parse(s.URL)
	secrets := map[string]string{
		"password": authztest.Password, "spent code": code, "live code": unused, "spent refresh token": tokens.RefreshToken,
		"live refresh token": next.RefreshToken, "access token": next.AccessToken, "ID token": tokens.IDToken, "master key": authztest.MasterKey,
	}
	for _, c := range b.Jar.Cookies(u) {
		_, secret, found := strings.Cut(c.Value, ".")
		if !found {
			secret = c.Value
		}
		secrets["cookie "+c.Name] = secret
	}
	ring, err := s.Store.KeyRing(t.Context())
	check(t, err)
	var dump []byte
	for _, suffix := range []string{"", "-wal"} {
		part, err := os.ReadFile(s.Path + suffix)
		check(t, err)
		dump = append(dump, part...)
	}
	if !bytes.Contains(dump, []byte("alice@example.com")) {
		t.Fatal("the dump is not the database")
	}
	for name, secret := range secrets {
		// The token as it is, its secret half, and both decoded.
		body := strings.TrimPrefix(strings.TrimPrefix(secret, "sgr_"), "sgc_")
		candidates := [][]byte{[]byte(secret), []byte(body[len(body)/2:])}
		if raw, err := base64.RawURLEncoding.DecodeString(body); err == nil && len(raw) >= 32 {
			candidates = append(candidates, raw[len(raw)-32:])
		}
		for _, c := range candidates {
			if len(c) >= 12 && bytes.Contains(dump, c) {
				t.Errorf("the %s is in the database", name)
			}
		}
	}
	for _, marker := range []string{"PRIVATE KEY", `"d":`, `"d" :`} {
		if bytes.Contains(dump, []byte(marker)) {
			t.Errorf("the database has %q", marker)
		}
	}
	// The record of a grant does not make its tokens: the key that does is
	// sealed, and differs with the ring.
	sum := sha256.Sum256(ring.Root)
	if bytes.Contains(dump, sum[:]) {
		t.Error("the hash of the sealed root is in the database")
	}
}

func TestG42WrongMasterKey(t *testing.T) {
	s := authztest.New(t)
	before, err := s.Store.KeyRing(t.Context())
	check(t, err)
	wrong, err := keys.ParseMaster([]byte(strings.Repeat("0f", 32)))
	check(t, err)
	if _, err := keys.Open(t.Context(), keys.Config{Store: s.Store, Master: wrong, Now: s.Clock.Now}); !errors.Is(err, keys.ErrMasterKey) {
		t.Errorf("opened with another master key: %v", err)
	}
	after, err := s.Store.KeyRing(t.Context())
	check(t, err)
	if after.Version != before.Version {
		t.Error("the ring was overwritten")
	}
	for _, text := range []string{"", "short", strings.Repeat("0f", 31), strings.Repeat("zz", 32)} {
		if _, err := keys.ParseMaster([]byte(text)); err == nil || !strings.Contains(err.Error(), "generate-master") {
			t.Errorf("master key %q: %v", text, err)
		}
	}
}
