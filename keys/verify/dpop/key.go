package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// publicKey is a key that a proof may be signed with.
type publicKey struct {
	kind   string // kty
	public crypto.PublicKey
	// canonical is the key as RFC 7638 §3 writes it.
	canonical []byte
}

// Thumbprint returns the RFC 7638 SHA-256 thumbprint of a public key in JWK
// form, in base64url. The error says why a proof with this key is refused.
func Thumbprint(jwk []byte) (string, error) {
	if len(jwk) > maxProof {
		return "", fmt.Errorf("dpop: the JWK has %d bytes, at most %d are expected", len(jwk), maxProof)
	}
	k, err := parseKey(jwk)
	if err != nil {
		return "", fmt.Errorf("dpop: %w", err)
	}
	return k.thumbprint(), nil
}

// ValidThumbprint reports whether s can be a SHA-256 thumbprint, such as a
// dpop_jkt (RFC 9449 §10): 32 bytes in canonical base64url, and not zeros alone,
// which no key has and stores keep for none.
func ValidThumbprint(s string) bool {
	if len(s) != 43 {
		return false
	}
	raw, err := strict.Decode(s)
	return err == nil && len(raw) == sha256.Size && [sha256.Size]byte(raw) != [sha256.Size]byte{}
}

// jwk is what a JWK says, its values still in base64url.
type jwk struct{ kind, curve, x, y, n, e, use, algorithm string }

func (j *jwk) member(name, value string) (err error) {
	switch name {
	case "kty":
		j.kind, err = strict.Text(value)
	case "crv":
		j.curve, err = strict.Text(value)
	case "x":
		j.x, err = strict.Text(value)
	case "y":
		j.y, err = strict.Text(value)
	case "n":
		j.n, err = strict.Text(value)
	case "e":
		j.e, err = strict.Text(value)
	case "use":
		j.use, err = strict.Text(value)
	case "alg":
		j.algorithm, err = strict.Text(value)
	case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
		// RFC 9449 §4.3: who sends a private key must learn of it.
		return fmt.Errorf("jwk has %s: a private key is never sent", name)
	case "x5u", "x5c":
		return fmt.Errorf("jwk has %s, which names another key", name)
	}
	return err
}

// parseKey reads a public key. There is one way to write each, so that there
// is one thumbprint for it.
func parseKey(raw []byte) (*publicKey, error) {
	var j jwk
	if err := strict.Object(raw, j.member); err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	k := &publicKey{kind: j.kind}
	var err error
	switch {
	case j.kind == "EC" && j.curve == "P-256":
		k.canonical = []byte(`{"crv":"P-256","kty":"EC","x":"` + j.x + `","y":"` + j.y + `"}`)
		k.public, err = pointP256(j.x, j.y)
	case j.kind == "RSA":
		k.canonical = []byte(`{"e":"` + j.e + `","kty":"RSA","n":"` + j.n + `"}`)
		k.public, err = modulus(j.n, j.e)
	case j.kind == "OKP" && j.curve == "Ed25519":
		k.canonical = []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + j.x + `"}`)
		k.public, err = fixed(j.x, ed25519.PublicKeySize)
	default:
		return nil, fmt.Errorf("jwk is of type %.20q and curve %.20q: EC with P-256, RSA, or OKP with Ed25519 is expected", j.kind, j.curve)
	}
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	if j.use != "" && j.use != "sig" {
		return nil, fmt.Errorf("jwk is for the use %.20q, not for signatures", j.use)
	}
	if j.algorithm != "" && !k.serves(j.algorithm) {
		return nil, fmt.Errorf("jwk is for the algorithm %.20q", j.algorithm)
	}
	return k, nil
}

// fixed reads exactly size bytes, as an Ed25519 key and a coordinate are (RFC
// 8037 §2, RFC 7518 §6.2.1.2).
func fixed(value string, size int) (ed25519.PublicKey, error) {
	raw, err := strict.Decode(value)
	if err != nil || len(raw) != size {
		return nil, fmt.Errorf("a value of %d bytes in canonical base64url is expected", size)
	}
	return raw, nil
}

// pointP256 reads a point, which must be on the curve: another curve's point
// could be one whose private key is easy to find.
func pointP256(x, y string) (*ecdsa.PublicKey, error) {
	xs, err := fixed(x, 32)
	if err != nil {
		return nil, err
	}
	ys, err := fixed(y, 32)
	if err != nil {
		return nil, err
	}
	point := make([]byte, 0, 65)
	point = append(point, 4) // uncompressed
	point = append(append(point, xs...), ys...)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// modulus reads an RSA key. Large ones are refused for what each check of them
// would cost, small ones for being small.
func modulus(n, e string) (*rsa.PublicKey, error) {
	ns, err := strict.Decode(n)
	if err != nil || len(ns) == 0 || ns[0] == 0 { // RFC 7518 §6.3.1.1: as few bytes as can be
		return nil, errors.New("n is not in canonical base64url")
	}
	es, err := strict.Decode(e)
	if err != nil || len(es) == 0 || len(es) > 4 || es[0] == 0 {
		return nil, errors.New("e is not in canonical base64url, or more than four bytes")
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(ns)}
	for _, b := range es {
		public.E = public.E<<8 | int(b)
	}
	switch bits := public.N.BitLen(); {
	case bits < 2048 || bits > 4096:
		return nil, fmt.Errorf("RSA with %d bits, 2048 to 4096 are expected", bits)
	case public.N.Bit(0) == 0:
		return nil, errors.New("n is even")
	case public.E < 65537 || public.E > 1<<31-1 || public.E%2 == 0:
		return nil, errors.New("e is not an odd number from 65537 to 2147483647")
	}
	return public, nil
}

// serves reports whether the key is for the algorithm, by its type and curve.
func (k *publicKey) serves(algorithm string) bool {
	switch k.kind {
	case "EC":
		return algorithm == "ES256"
	case "RSA":
		return algorithm == "PS256"
	default:
		return slices.Contains([]string{"EdDSA", "Ed25519"}, algorithm)
	}
}

func (k *publicKey) thumbprint() string {
	sum := sha256.Sum256(k.canonical)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
