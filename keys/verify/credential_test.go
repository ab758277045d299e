package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ES256": ec, "EdDSA": ed, "PS256": r}
}

// TestAssertionIsForTheIssuerOnly holds an assertion to RFC 7523 §3, for each
// kind of key.
func TestAssertionIsForTheIssuerOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for algorithm, key := range signers(t) {
		c := &Credential{ID: "orders-api", Key: key, KeyID: "k1"}
		if err := c.valid(); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", "/", nil)
		if c.basic(r); r.Header.Get("Authorization") != "" {
			t.Errorf("%s: there is HTTP Basic beside the assertion", algorithm)
		}
		ids := map[string]bool{}
		for range 20 { // numbers with leading zeros, too
			text, err := c.assertion("https://login.example.com", now)
			if err != nil {
				t.Fatal(err)
			}
			jws, err := strict.Compact(text)
			if err != nil || !strict.Verify(algorithm, key.Public(), jws.Signed, jws.Signature) {
				t.Fatalf("%s: %v, or the signature is wrong", algorithm, err)
			}
			var header, claims map[string]any
			if json.Unmarshal(jws.Header, &header) != nil || json.Unmarshal(jws.Payload, &claims) != nil {
				t.Fatal("it can't be read")
			}
			if len(header) != 3 || header["alg"] != algorithm || header["kid"] != "k1" || header["typ"] != "client-authentication+jwt" {
				t.Errorf("header %v", header)
			}
			if claims["iss"] != "orders-api" || claims["sub"] != "orders-api" || claims["aud"] != "https://login.example.com" || claims["iat"] != 1.8e9 || claims["exp"] != 1.8e9+60 {
				t.Errorf("claims %v", claims)
			}
			ids[claims["jti"].(string)] = true
		}
		if len(ids) != 20 {
			t.Errorf("%s: %d identifiers for 20 assertions", algorithm, len(ids))
		}
	}
}

// TestBasicIsFormEncoded: RFC 6749 §2.3.1, which many forget.
func TestBasicIsFormEncoded(t *testing.T) {
	c := &Credential{ID: "orders:api", Secret: "a b+c%ä"}
	r := httptest.NewRequest("POST", "/", nil)
	c.basic(r)
	user, secret, ok := r.BasicAuth()
	if !ok || user != "orders%3Aapi" || secret != url.QueryEscape("a b+c%ä") {
		t.Errorf("got %q %q", user, secret)
	}
	if text, err := c.assertion("https://login.example.com", time.Now()); text != "" || err != nil {
		t.Errorf("an assertion without a key: %q, %v", text, err)
	}
}

func TestCredentialIsNeverShown(t *testing.T) {
	c := Credential{ID: "orders-api", Secret: "hush-hush"}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "c", c, "p", &c, "in", struct{ C *Credential }{&c})
	}
	fmt.Fprintf(&log, "%v %+v %#v %s %v %#v %v", c, c, c, c, &c, &c, struct{ C Credential }{c})
	if _, err := json.Marshal(c); err == nil {
		t.Error("it can be marshalled")
	}
	if strings.Contains(log.String(), "hush") || !strings.Contains(log.String(), "orders-api") {
		t.Errorf("shown: %s", &log)
	}
}

// broken is a key of a kind or a signature that can't be.
type broken struct {
	public    crypto.PublicKey
	signature []byte
	err       error
}

func (b broken) Public() crypto.PublicKey { return b.public }

func (b broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return b.signature, b.err
}

func TestCredentialThatCantBe(t *testing.T) {
	good := signers(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Credential{
		"nothing":       {},
		"no ID":         {Secret: "s"},
		"no credential": {ID: "a"},
		"two":           {ID: "a", Secret: "s", Key: good["ES256"]},
		"other curve":   {ID: "a", Key: p384},
		"other kind":    {ID: "a", Key: broken{public: "?"}},
	} {
		if err := c.valid(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, key := range map[string]broken{
		"an error":      {public: good["ES256"].Public(), err: errors.New("no")},
		"no DER":        {public: good["ES256"].Public(), signature: make([]byte, 64)},
		"too long":      {public: good["ES256"].Public(), signature: append([]byte{0x30, 0x26, 2, 1, 1, 2, 0x21, 1}, make([]byte, 32)...)},
		"too long, too": {public: good["ES256"].Public(), signature: append(append([]byte{0x30, 0x26, 2, 0x21, 1}, make([]byte, 32)...), 2, 1, 1)},
		"not positive":  {public: good["ES256"].Public(), signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 1}},
	} {
		c := &Credential{ID: "a", Key: key}
		if text, err := c.assertion("https://login.example.com", time.Now()); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
}
