package dpop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// key is a client's key.
type key struct {
	alg     string
	private crypto.Signer
	jwk     map[string]any
}

func newKey(tb testing.TB, alg string) key {
	tb.Helper()
	k := key{alg: alg}
	var err error
	switch alg {
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "PS256", "RS256":
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := json.Marshal(jose.JSONWebKey{Key: k.private.Public()})
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(raw, &k.jwk); err != nil {
		tb.Fatal(err)
	}
	return k
}

// sign signs what is given, whatever it is, with the key's algorithm.
func (k key) sign(tb testing.TB, header, payload string) string {
	tb.Helper()
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		size := (private.Params().BitSize + 7) / 8
		if r, s, err = ecdsa.Sign(rand.Reader, private, digest[:]); err == nil {
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case *rsa.PrivateKey:
		if k.alg == "RS256" {
			signature, err = rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
		} else {
			signature, err = rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(input))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return input + "." + b64(signature)
}

func (k key) header(changes map[string]any) map[string]any {
	return change(map[string]any{"typ": "dpop+jwt", "alg": k.alg, "jwk": k.jwk}, changes)
}

func payload(changes map[string]any) map[string]any {
	sum := sha256.Sum256([]byte(token))
	return change(map[string]any{"jti": "id-1", "htm": "GET", "htu": address, "iat": now.Unix(), "ath": b64(sum[:])}, changes)
}

func change(m, changes map[string]any) map[string]any {
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func (k key) proof(tb testing.TB, header, claims map[string]any) string {
	tb.Helper()
	return k.sign(tb, text(tb, k.header(header)), text(tb, payload(claims)))
}

func text(tb testing.TB, v any) string {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

func decode(tb testing.TB, s string) []byte {
	tb.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// spare sets a spare bit of the last character: decoders that are not strict
// read the same bytes.
func spare(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i^1])
}

// odd returns a number of size bytes.
func odd(first byte, size int) []byte {
	n := make([]byte, size)
	n[0], n[size-1] = first, 1
	return n
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"x` + strconv.Itoa(i) + `":1,`)
	}
	return b.String()
}

// hs256 signs with the jwk as the secret, where a careless verifier would use
// it as one.
func hs256(t *testing.T, k key) string {
	k.alg = "HS256"
	input := b64([]byte(text(t, k.header(nil)))) + "." + b64([]byte(text(t, payload(nil))))
	mac := hmac.New(sha256.New, []byte(text(t, k.jwk)))
	mac.Write([]byte(input))
	return input + "." + b64(mac.Sum(nil))
}

func asn1(t *testing.T, k key, input string) string {
	digest := sha256.Sum256([]byte(input))
	signature, err := k.private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(signature)
}

func rsa4096(t *testing.T) key {
	private, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return key{alg: "PS256", private: private, jwk: map[string]any{"kty": "RSA", "n": b64(private.N.Bytes()), "e": "AQAB"}}
}
