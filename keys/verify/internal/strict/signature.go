package strict

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
)

// Verify checks a signature of ES256, RS256, PS256, EdDSA or Ed25519 (RFC 7518
// §3.1, RFC 8037 §3.1, RFC 9864 §2.2). A key of another type than the
// algorithm's verifies nothing; its curve and size are the caller's to check.
func Verify(algorithm string, public crypto.PublicKey, input, signature []byte) bool {
	digest := sha256.Sum256(input)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if algorithm != "ES256" || len(signature) != 64 { // RFC 7518 §3.4
			return false
		}
		return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case ed25519.PublicKey:
		return (algorithm == "EdDSA" || algorithm == "Ed25519") && ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		switch algorithm {
		case "RS256":
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
		case "PS256":
			return rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	}
	return false
}
