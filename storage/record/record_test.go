package record

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/storage"
)

func sample() (storage.Session, storage.Grant) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	s := storage.Session{ID: "u.s", Secret: storage.Hash{1, 255}, User: "u", AuthTime: at, ACR: "acr", AMR: []string{"pwd", "otp"}, CreatedAt: at, Expires: at.Add(time.Hour), Address: "192.0.2.1", UserAgent: "ünïcödé", Epoch: 7}
	g := storage.Grant{ID: "u.s.g", Client: "c", User: "u", Session: "u.s", Scope: []string{"a", "b"}, Resource: []string{"https://api.example.com"}, AuthTime: at, Salt: [16]byte{9}, RedirectURI: "https://a.example/cb", CodeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Nonce: "n", CodeExpires: at, CreatedAt: at, Epoch: 1 << 63}
	return s, g
}

func TestCodec(t *testing.T) {
	s, g := sample()
	if got, err := DecodeSession("u.s", EncodeSession(s)); err != nil || !cmp.Equal(got, s) {
		t.Errorf("session: %v\n%s", err, cmp.Diff(s, got))
	}
	if got, err := DecodeGrant("u.s.g", EncodeGrant(g)); err != nil || !cmp.Equal(got, g) {
		t.Errorf("grant: %v\n%s", err, cmp.Diff(g, got))
	}
	if got, err := DecodeGrant("u.s.g", EncodeGrant(storage.Grant{})); err != nil || !cmp.Equal(got, storage.Grant{ID: "u.s.g", User: "u", Session: "u.s"}) {
		t.Errorf("empty grant: %v", err)
	}
	good := EncodeGrant(g)
	for i := range good {
		if _, err := DecodeGrant("u.s.g", good[:i]); err == nil {
			t.Errorf("a grant cut off after %d bytes was read", i)
		}
	}
	if _, err := DecodeGrant("u.s.g", append(good, 0)); err == nil {
		t.Error("a grant with a byte too many was read")
	}
	good[0] = grantVersion + 1
	if _, err := DecodeGrant("u.s.g", good); err == nil {
		t.Error("a grant of a later version was read")
	}
}

func TestThumbprint(t *testing.T) {
	const jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" // RFC 9449 §6.1
	for _, good := range []string{"", jkt} {
		b, err := Thumbprint(good)
		if err != nil || len(b) != 0 && len(b) != 32 {
			t.Errorf("%q: %d bytes, %v", good, len(b), err)
		}
		if got, err := JKT(b); err != nil || got != good {
			t.Errorf("%q came back as %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{"x", jkt[:42], jkt + "A", jkt + "=", jkt[:42] + "J", "\n" + jkt, jkt[:20] + "\r\n" + jkt[20:], strings.Repeat("A", 43)} {
		if b, err := Thumbprint(bad); err == nil {
			t.Errorf("%q was taken for %x", bad, b)
		}
	}
	for _, size := range []int{1, 31, 33} {
		if got, err := JKT(make([]byte, size)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes are %q, %v", size, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	s, g := sample()
	f.Add(EncodeSession(s))
	f.Add(EncodeGrant(g))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is read is what its encoding says, and nothing makes it panic.
		if s, err := DecodeSession("u.s", b); err == nil {
			if again, err := DecodeSession("u.s", EncodeSession(s)); err != nil || !cmp.Equal(again, s) {
				t.Errorf("session: %v", err)
			}
		}
		if g, err := DecodeGrant("u.s.g", b); err == nil {
			if again, err := DecodeGrant("u.s.g", EncodeGrant(g)); err != nil || !cmp.Equal(again, g) {
				t.Errorf("grant: %v", err)
			}
		}
	})
}
