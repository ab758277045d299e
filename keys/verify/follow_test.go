package verify

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
)

// FuzzStream: whatever comes by the stream, nothing counts that the issuer
// didn't sign, and what it signed counts in its place only.
func FuzzStream(f *testing.F) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	c := &Config{
		Issuer: "https://login.example.com", Audience: "https://api.example.com", Feed: &Feed{}, Credential: &Credential{ID: "api", Secret: "s"},
		Client: &http.Client{Transport: refusing{}}, // no key is fetched
	}
	if err := c.complete(); err != nil {
		f.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	sign := func(typ string, m *feed.Message) string {
		m.Issuer, m.Audience, m.IssuedAt = c.Issuer, c.Audience, time.Now()
		payload, err := m.Claims(typ)
		if err != nil {
			f.Fatal(err)
		}
		input := b64([]byte(`{"alg":"EdDSA","kid":"k","typ":"`+typ+`"}`)) + "." + b64(payload)
		return input + "." + b64(ed25519.Sign(private, []byte(input)))
	}
	until := time.Now().Add(time.Hour)
	event := func(from, to feed.Cursor) string {
		return sign(feed.EventType, &feed.Message{Span: feed.Span{From: from, To: to}, Events: []feed.Event{{ID: string(to), Kind: feed.Session, Subject: string(to), NotBefore: until, Until: until}}})
	}
	honest := []string{event("", "1"), sign(feed.HeartbeatType, &feed.Message{Span: feed.Span{From: "1", To: "1"}}), event("1", "2"), event("2", "3")}
	var stream []byte
	for _, jws := range honest {
		stream = feed.AppendMessage(stream, "x", jws)
	}
	f.Add(stream)
	f.Add(feed.AppendComment(feed.AppendMessage(nil, "", honest[0])))
	f.Add([]byte("data: " + honest[0][:100] + "\n\n" + "data: a.b.c\n\n"))
	f.Add([]byte("data: " + honest[2] + "\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		set := newKeySet(c)
		set.now.Store(&keys{byID: map[string]*key{"k": {"k", "EdDSA", public}}, fetched: time.Now()})
		fol := newFollower(c, set)
		r := feed.NewReader(strings.NewReader(string(stream)))
		for {
			jws, err := r.Next()
			if err != nil {
				break
			}
			m, err := fol.open(t.Context(), jws, feed.EventType, feed.HeartbeatType)
			if err != nil {
				break
			}
			if signed := strings.Contains(strings.Join(honest, " "), jws[:strings.LastIndexByte(jws, '.')]); !signed {
				t.Fatalf("%q is taken for the issuer's", jws)
			}
			if err := fol.take(m); err != nil {
				break
			}
		}
		// Where it is says what it has.
		held := map[feed.Cursor]int64{"": 0, "1": 1, "2": 2, "3": 3}
		if n, ok := held[fol.at]; !ok || n != fol.set.count.Load() {
			t.Fatalf("at %q it holds %d events", fol.at, fol.set.count.Load())
		}
	})
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("there is no network here")
}
