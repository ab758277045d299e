package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

func BenchmarkVerifyNew(b *testing.B) {
	w := newWorld(b, func(c *verify.Config) { c.CacheSize = -1 })
	token := w.Token(map[string]any{"scope": "openid profile email offline_access notes:read", "acr": "urn:solegate:acr:password", "amr": []string{"pwd"}, "auth_time": 1})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySeen(b *testing.B) {
	w := newWorld(b)
	token := w.Token(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRawES256(b *testing.B) {
	w := newWorld(b)
	check := rawES256(b, w.Key().Private.Public(), w.Token(nil))
	b.ReportAllocs()
	for b.Loop() {
		if !check() {
			b.Fatal("wrong")
		}
	}
}

// The check of a request with DPoP costs two ES256 checks, for the token and
// for the proof, and should cost at most a quarter more. Both are measured in
// turn, and the medians compared: what else the machine does hits both.
func BenchmarkRequestNew(b *testing.B)  { benchmarkRequest(b, -1) }
func BenchmarkRequestSeen(b *testing.B) { benchmarkRequest(b, 0) }

func benchmarkRequest(b *testing.B, cacheSize int) {
	w := newWorld(b, func(c *verify.Config) { c.CacheSize = cacheSize })
	c := w.client(b)
	c.token = w.BoundToken(c.ProofKey, map[string]any{"scope": "openid profile email offline_access notes:read", "acr": "urn:solegate:acr:password", "amr": []string{"pwd"}, "auth_time": 1})
	requests := make([]*http.Request, b.N)
	for i := range requests {
		requests[i] = c.request(c.proof(nil))
	}
	token, proof := rawES256(b, w.Key().Private.Public(), c.token), rawES256(b, c.Public(), c.proof(nil))
	var raw, full []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for _, r := range requests {
		start := time.Now()
		if !token() || !proof() {
			b.Fatal("wrong")
		}
		middle := time.Now()
		if _, err := w.v.VerifyRequest(r, "openid"); err != nil {
			b.Fatal(err)
		}
		full = append(full, time.Since(middle))
		raw = append(raw, middle.Sub(start))
	}
	slices.Sort(full)
	slices.Sort(raw)
	f, r := float64(full[b.N/2]), float64(raw[b.N/2])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(r, "ns-two-raw/op")
	b.ReportMetric(f, "ns-request/op")
	b.ReportMetric(100*f/r, "%-of-two-raw")
}

// rawES256 returns the bare check of a JWS's signature.
func rawES256(b *testing.B, key crypto.PublicKey, jws string) func() bool {
	i := strings.LastIndexByte(jws, '.')
	signature, err := decodePart(jws, 2)
	if err != nil {
		b.Fatal(err)
	}
	return func() bool {
		digest := sha256.Sum256([]byte(jws[:i]))
		return ecdsa.Verify(key.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
}
