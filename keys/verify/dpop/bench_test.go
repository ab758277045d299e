package dpop_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"

	"github.com/solegate/solegate/keys/verify/dpop"
)

func BenchmarkCheck(b *testing.B) {
	for _, alg := range dpop.Algorithms()[:3] {
		b.Run(alg, func(b *testing.B) {
			proof, e := newKey(b, alg).proof(b, nil, nil), expect()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dpop.Check(proof, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRawES256 is what a check can't cost less than.
func BenchmarkRawES256(b *testing.B) {
	k := newKey(b, "ES256")
	proof := k.proof(b, nil, nil)
	i := strings.LastIndexByte(proof, '.')
	signature := decode(b, proof[i+1:])
	public := k.private.Public().(*ecdsa.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		digest := sha256.Sum256([]byte(proof[:i]))
		if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			b.Fatal("wrong")
		}
	}
}
