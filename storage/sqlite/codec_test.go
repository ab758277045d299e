package sqlite

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/storage"
)

func sample() (storage.Session, storage.Grant) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	s := storage.Session{ID: "s", Secret: storage.Hash{1, 255}, User: "u", AuthTime: at, ACR: "acr", AMR: []string{"pwd", "otp"}, CreatedAt: at, Expires: at.Add(time.Hour), Address: "192.0.2.1", UserAgent: "ünïcödé"}
	g := storage.Grant{ID: "g", Client: "c", User: "u", Session: "s", Scope: []string{"a", "b"}, Resource: []string{"https://api.example.com"}, AuthTime: at, Salt: [16]byte{9}, RedirectURI: "https://a.example/cb", CodeChallenge: "x", Nonce: "n", CodeExpires: at, CreatedAt: at}
	return s, g
}

func TestCodec(t *testing.T) {
	s, g := sample()
	if got, err := decodeSession(encodeSession(s)); err != nil || !cmp.Equal(got, s) {
		t.Errorf("session: %v\n%s", err, cmp.Diff(s, got))
	}
	if got, err := decodeGrant(encodeGrant(g)); err != nil || !cmp.Equal(got, g) {
		t.Errorf("grant: %v\n%s", err, cmp.Diff(g, got))
	}
	if got, err := decodeGrant(encodeGrant(storage.Grant{})); err != nil || !cmp.Equal(got, storage.Grant{}) {
		t.Errorf("empty grant: %v", err)
	}
	good := encodeGrant(g)
	for i := range good {
		if _, err := decodeGrant(good[:i]); err == nil {
			t.Errorf("a grant cut off after %d bytes was read", i)
		}
	}
	if _, err := decodeGrant(append(good, 0)); err == nil {
		t.Error("a grant with a byte too many was read")
	}
	good[0] = grantVersion + 1
	if _, err := decodeGrant(good); err == nil {
		t.Error("a grant of a later version was read")
	}
}

func FuzzDecode(f *testing.F) {
	s, g := sample()
	f.Add(encodeSession(s))
	f.Add(encodeGrant(g))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is read is what its encoding says, and nothing makes it panic.
		if s, err := decodeSession(b); err == nil {
			if again, err := decodeSession(encodeSession(s)); err != nil || !cmp.Equal(again, s) {
				t.Errorf("session: %v", err)
			}
		}
		if g, err := decodeGrant(b); err == nil && bytes.Equal(encodeGrant(g), b) {
			if again, err := decodeGrant(encodeGrant(g)); err != nil || !cmp.Equal(again, g) {
				t.Errorf("grant: %v", err)
			}
		}
	})
}
