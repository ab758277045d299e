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
	for _, place := range []storage.Place{{List: "AAECAwQFBgcICQoL", Index: 1 << 17}, {List: "of a later server", Index: 1<<32 - 1}, {Index: 1}, {List: "A"}} {
		g.Status = place
		if got, err := DecodeGrant("u.s.g", EncodeGrant(g)); err != nil || !cmp.Equal(got, g) {
			t.Errorf("grant with place %+v: %v\n%s", place, err, cmp.Diff(g, got))
		}
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

// TestOlderGrant: what version 2 wrote, without numbers for words, is read.
func TestOlderGrant(t *testing.T) {
	_, want := sample()
	want.Scope, want.ACR, want.AMR = []string{"openid", "offline_access", "a"}, "urn:solegate:acr:password", []string{"pwd", "otp"}
	older := "\x02\xaa\xb4\xba\x89\xa9\xb3\xd5\xea1\x00\x01c\x03\x06openid\x0eoffline_access\x01a\x01\x17https://api.example.com\x00\x19urn:solegate:acr:password\x02\x03pwd\x03otp" +
		"\t" + strings.Repeat("\x00", 15) + "\x14https://a.example/cb\x01 \x13\xd3\x1e\x96\x1a\x1a\xd8\xec/\x16\xb1\fL\x98.\bv\xa8x\xadm\xf1DVn\xe1\x89J\xcbp\xf9\xc3\x01n\x00" +
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"
	got, err := DecodeGrant("u.s.g", []byte(older))
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	newer := EncodeGrant(got)
	if len(newer) != len(older)-6-14-25-3 {
		t.Errorf("it takes %d bytes, and took %d", len(newer), len(older))
	}
	if again, err := DecodeGrant("u.s.g", newer); err != nil || !cmp.Equal(again, want) {
		t.Errorf("as it is written now: %v\n%s", err, cmp.Diff(want, again))
	}
}

// TestPlaceIsTiny: and a grant that has none is written as it was before there
// were places.
func TestPlaceIsTiny(t *testing.T) {
	_, g := sample()
	without := EncodeGrant(g)
	if without[0] != placeVersion-1 {
		t.Errorf("a grant without a place is of version %d", without[0])
	}
	g.Status = storage.Place{List: "AAECAwQFBgcICQoL", Index: 1<<18 - 1}
	if n := len(EncodeGrant(g)) - len(without); n > 17 {
		t.Errorf("a place takes %d bytes", n)
	}
}

func TestWords(t *testing.T) {
	_, g := sample()
	g.Scope, g.AMR = append([]string{"\x01", "openid ", "Openid", strings.Repeat("x", 300)}, words...), words
	for _, acr := range append([]string{"\x05", "other"}, words...) {
		g.ACR = acr
		if got, err := DecodeGrant("u.s.g", EncodeGrant(g)); err != nil || !cmp.Equal(got, g) {
			t.Errorf("%q: %v\n%s", acr, err, cmp.Diff(g, got))
		}
	}
	if len(words) > maxWords {
		t.Errorf("%d words have no room in %d", len(words), maxWords)
	}
	// A number that stands for nothing is damage, no word.
	b := EncodeGrant(storage.Grant{ACR: "openid"})
	for i := range b {
		if b[i] == 1 && i > 4 {
			b[i] = byte(len(words))
			if got, err := DecodeGrant("u.s.g", b); err == nil {
				t.Errorf("a number of no word is %+v", got)
			}
			return
		}
	}
	t.Error("no word was found")
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
	g.Status = storage.Place{List: "AAECAwQFBgcICQoL", Index: 5}
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
