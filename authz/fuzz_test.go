package authz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage/sqlite"
)

// parsing is a server that reads what comes from the network, and no more.
func parsing(tb testing.TB) *Server {
	tb.Helper()
	store, err := sqlite.Open(tb.Context(), sqlite.Config{Path: filepath.Join(tb.TempDir(), "solegate.db")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	master, err := keys.ParseMaster([]byte(strings.Repeat("0f", 32)))
	if err != nil {
		tb.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }
	ring, err := keys.Open(tb.Context(), keys.Config{Store: store, Master: master, Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	return &Server{Config: Config{Issuer: "https://login.example.com", Ring: ring, Now: now, Rand: rand.Reader}}
}

// FuzzAssertion: nothing panics, and what passes is the client's own, for this
// issuer, and signed: the one good assertion, or its other signature (r, -s).
func FuzzAssertion(f *testing.F) {
	s := parsing(f)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	registered := func() ([]clients.Key, error) {
		return []clients.Key{{ID: "a", Public: private.Public(), Algorithms: []string{"ES256"}}}, nil
	}
	encode := base64.RawURLEncoding.EncodeToString
	sign := func(header, payload string) string {
		input := encode([]byte(header)) + "." + encode([]byte(payload))
		digest := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			f.Fatal(err)
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return input + "." + encode(signature)
	}
	const header, payload = `{"alg":"ES256","kid":"a"}`, `{"iss":"backend","sub":"backend","aud":"https://login.example.com","jti":"x","exp":1795608060}`
	good := sign(header, payload)
	signed := good[:strings.LastIndexByte(good, '.')]
	if _, err := s.checkAssertion(good, "backend", registered); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		good, good + "\n", good + "=", sign(header+"}", payload), sign(`{"alg":"none"}`, payload), sign(header, payload+"}"), sign(header, "null"),
		sign(header, strings.Replace(payload, `"exp":1795608060`, `"exp":1e999`, 1)), sign(header, strings.Replace(payload, `"https://login.example.com"`, `["https://login.example.com"]`, 1)), "..", "a.b.c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := assertedClient(text)
		if err == nil && id == "" {
			t.Errorf("%q names nobody", text)
		}
		if a, err := s.checkAssertion(text, "backend", registered); err == nil {
			if id != "backend" || !strings.HasPrefix(text, signed+".") || !a.expires.After(s.Now()) {
				t.Errorf("%q passed, of client %q, until %s", text, id, a.expires)
			}
		} else if strings.Contains(err.Error(), text) && len(text) > 64 {
			t.Errorf("the error repeats it: %v", err)
		}
		if _, err := s.checkAssertion(text, "other", registered); err == nil {
			t.Errorf("%q passed for another client", text)
		}
	})
}

// FuzzBasicCredential: nothing panics, what was encoded is decoded again, and
// no error repeats it.
func FuzzBasicCredential(f *testing.F) {
	for _, seed := range []string{"backend:secret", "%62ackend:s%2Bcret+", ":", "", ":secret", "backend", "a%", "a:%zz", "a:b:c", "\xff:\x00"} {
		f.Add("Basic " + base64.StdEncoding.EncodeToString([]byte(seed)))
		f.Add("bAsIc " + base64.RawStdEncoding.EncodeToString([]byte(seed)))
	}
	f.Add("Bearer x")
	f.Add("Basic")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, err := basicCredential(&http.Request{Header: http.Header{"Authorization": {header}}})
		if err != nil {
			if id != "" || secret != "" || len(header) > 24 && strings.Contains(err.Error(), header[6:]) {
				t.Errorf("%q: %q %q %v", header, id, secret, err)
			}
			return
		}
		if id == "" {
			t.Errorf("%q names nobody", header)
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(string(id))+":"+url.QueryEscape(secret)))
		if sameID, sameSecret, err := basicCredential(&http.Request{Header: http.Header{"Authorization": {again}}}); err != nil || sameID != id || sameSecret != secret {
			t.Errorf("%q: read again as %q: %v", header, sameID, err)
		}
		if _, _, err := basicCredential(&http.Request{Header: http.Header{"Authorization": {header, header}}}); err == nil {
			t.Errorf("%q passed twice", header)
		}
	})
}

// FuzzRequestURI: nothing panics, and no other text than the one that was
// handed out is taken up, nor is it for another client.
func FuzzRequestURI(f *testing.F) {
	s := parsing(f)
	good := requestURIPrefix + s.Ring.Seal(pushedPurpose, marshalPlain(pushedAuthorization{"id", "spa", url.Values{"client_id": {"spa"}, "state": {"<"}}, s.Now()}))
	visited := func(uri, client string) (*authorization, error) {
		a := &authorization{form: url.Values{"client_id": {client}, "request_uri": {uri}, "state": {"smuggled"}}}
		return a, s.pushedRequest(a)
	}
	if a, err := visited(good, "spa"); err != nil || a.pushed != "id" || a.form.Get("state") != "<" {
		f.Fatal(a, err)
	}
	f.Add(good)
	f.Add(good + "\n")
	f.Add(good + "A")
	f.Add(strings.TrimPrefix(good, requestURIPrefix))
	f.Add(requestURIPrefix)
	f.Add(requestURIPrefix + requestURIPrefix)
	f.Add(requestURIPrefix + s.Ring.Seal("resume", []byte("{}")))
	f.Add("https://evil.example/")
	f.Fuzz(func(t *testing.T, uri string) {
		if a, err := visited(uri, "spa"); err == nil && uri != good {
			t.Errorf("%q was taken up: %v", uri, a.form)
		} else if err != nil && (a.pushed != "" || a.form.Get("state") != "smuggled") {
			t.Errorf("%q was refused and left %v", uri, a.form)
		}
		if _, err := visited(uri, "other"); err == nil {
			t.Errorf("%q was taken up for another client", uri)
		}
	})
}

// FuzzAccepts: no Accept header makes it panic, and who asks for anything, or for
// what there is, gets it.
func FuzzAccepts(f *testing.F) {
	for _, header := range []string{"", "*/*", "application/statuslist+jwt;q=0.1, text/html", "application/statuslist+cwt", "a/b;q=x;;,", ";q=0"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		accepts([]string{header})
		for _, good := range []string{"application/statuslist+jwt", "*/*;q=0.5"} {
			if !accepts([]string{header, good}) {
				t.Errorf("%q and %q: refused", header, good)
			}
		}
	})
}
