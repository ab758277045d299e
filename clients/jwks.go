package clients

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// Key is a public key that a client or a resource server signs its assertions
// with (RFC 7523 §2.2).
type Key struct {
	// ID is the kid, "" if the key has none: then it is the only one.
	ID string
	// Algorithms are the values of alg that an assertion by this key may have
	// in its header, and no others (RFC 8725 §3.1). EdDSA and Ed25519 are two
	// names of one algorithm (RFC 9864 §2.2).
	Algorithms []string
	// Public is an *ecdsa.PublicKey on P-256, an *rsa.PublicKey of 2048 to 4096
	// bits, or an ed25519.PublicKey.
	Public crypto.PublicKey
}

// Bounds of a key set.
const (
	maxJWKS    = 16 << 10
	maxKeys    = 16
	maxKeyID   = 200
	minRSABits = 2048 // FAPI 2.0 Security Profile §5.4.1
	maxRSABits = 4096 // a check of a longer one costs an attacker nothing and the server much
)

// AssertionAlgs are the algorithms of private_key_jwt, all that FAPI 2.0
// Security Profile §5.4.1 allows: the values of
// token_endpoint_auth_signing_alg_values_supported.
func AssertionAlgs() []string { return []string{"ES256", "PS256", "EdDSA", "Ed25519"} }

// Keys returns the public keys of the client, for private_key_jwt. They are
// read anew from the JWKS by each call.
func (c *Client) Keys() ([]Key, error) { return ParseJWKS(c.JWKS) }

// Keys returns the public keys of the resource server, for private_key_jwt.
// They are read anew from the JWKS by each call.
func (rs *ResourceServer) Keys() ([]Key, error) { return ParseJWKS(rs.JWKS) }

// ParseJWKS reads a JSON Web Key Set (RFC 7517 §5). It is stricter than who
// uses a set of somebody else's: this one is registered, so what can't be used
// is a mistake of the person who registers it. Each key is public, for
// signatures, and of a kind that [Key] names; of two or more each has a kid of
// its own. The error names every mistake, joined, and no part of any key.
func ParseJWKS(set []byte) ([]Key, error) {
	keys, errs := parseJWKS(set)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

func parseJWKS(set []byte) (keys []Key, errs []error) {
	refuse := func(format string, args ...any) ([]Key, []error) {
		return nil, []error{fmt.Errorf(format, args...)}
	}
	var members map[string]json.RawMessage // of exact names: a struct's are of any case
	var list []map[string]json.RawMessage
	switch {
	case len(bytes.TrimSpace(set)) == 0:
		return refuse("it is empty")
	case len(set) > maxJWKS:
		return refuse("it has %d bytes, at most %d are allowed", len(set), maxJWKS)
	case bytes.Contains(set, []byte("-----BEGIN")):
		return refuse("it is PEM: a JSON Web Key Set (RFC 7517) is expected")
	case !utf8.Valid(set) || json.Unmarshal(set, &members) != nil:
		return refuse(`it is no JSON Web Key Set: {"keys":[...]} is expected (RFC 7517 §5)`)
	case members["keys"] == nil && members["kty"] != nil:
		return refuse(`it is one key, not a set: write {"keys":[...]} around it`)
	case json.Unmarshal(members["keys"], &list) != nil:
		return refuse(`it is no JSON Web Key Set: {"keys":[...]} is expected, a list of objects`)
	case len(list) == 0:
		return refuse("there is no key in it")
	case len(list) > maxKeys:
		return refuse("there are %d keys in it, at most %d are allowed", len(list), maxKeys)
	}
	for i, jwk := range list {
		k, err := parseJWK(jwk)
		switch {
		case err != nil:
		case k.ID == "" && len(list) > 1:
			err = errors.New("it has no kid: of several keys each needs one")
		case slices.ContainsFunc(keys, func(other Key) bool { return other.ID == k.ID }):
			err = fmt.Errorf("another key has its kid %.50q", k.ID)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d: %w", i+1, err))
		}
		keys = append(keys, k)
	}
	return keys, errs
}

// private are the members that only a private or a symmetric key has (RFC 7518
// §6), and a post-quantum one's (draft-ietf-cose-dilithium).
var private = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// parseJWK reads one key (RFC 7517 §4). No error says what is in it: somebody
// may have given the private key by mistake.
func parseJWK(jwk map[string]json.RawMessage) (k Key, err error) {
	for name := range jwk {
		if slices.Contains(private, strings.ToLower(name)) {
			return k, errors.New("it is private or symmetric: give the public key only, and make a new one, because this one has been where it does not belong")
		}
	}
	m := members{of: jwk}
	kty, crv, use, alg := m.text("kty"), m.text("crv"), m.text("use"), m.text("alg")
	k.ID = m.text("kid")
	ops := m.texts("key_ops")
	switch {
	case m.err != nil:
		return k, m.err
	case kty == "EC" && crv == "P-256":
		k.Algorithms = []string{"ES256"}
		k.Public, err = ecKey(m.bytes("x"), m.bytes("y"))
	case kty == "RSA":
		k.Algorithms = []string{"PS256"}
		k.Public, err = rsaKey(m.bytes("n"), m.bytes("e"))
	case kty == "OKP" && crv == "Ed25519":
		k.Algorithms = []string{"EdDSA", "Ed25519"}
		k.Public, err = edKey(m.bytes("x"))
	default:
		return k, errors.New("it is of a kind that can't be used: EC on P-256, RSA, or OKP Ed25519 is expected")
	}
	switch {
	case m.err != nil:
		return k, m.err
	case err != nil:
		return k, err
	case jwk["use"] != nil && use != "sig":
		return k, errors.New(`its use is not "sig"`)
	case jwk["key_ops"] != nil && !slices.Contains(ops, "verify"):
		return k, errors.New(`its key_ops are without "verify"`)
	case jwk["alg"] != nil && !slices.Contains(k.Algorithms, alg):
		return k, fmt.Errorf("its alg does not fit: %s is expected, or none", strings.Join(k.Algorithms, " or "))
	case jwk["kid"] != nil && (k.ID == "" || len(k.ID) > maxKeyID):
		return k, fmt.Errorf("its kid is not 1 to %d bytes long", maxKeyID)
	}
	return k, nil
}

// ecKey makes a key on P-256 (RFC 7518 §6.2.1). That the point is on the curve
// is checked.
func ecKey(x, y []byte) (crypto.PublicKey, error) {
	if len(x) != 32 || len(y) != 32 {
		return nil, errors.New("x and y of a key on P-256 are 32 bytes each")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("x and y are no point on P-256")
	}
	return public, nil
}

// rsaKey makes an RSA key (RFC 7518 §6.3.1) of a size that is neither too weak
// nor too slow.
func rsaKey(n, e []byte) (crypto.PublicKey, error) {
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits, %d to %d are allowed", bits, minRSABits, maxRSABits)
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 || public.N.Bit(0) == 0 {
		return nil, errors.New("n and e are no RSA key")
	}
	public.E = int(exponent.Int64())
	return public, nil
}

// edKey makes an Ed25519 key (RFC 8037 §2).
func edKey(x []byte) (crypto.PublicKey, error) {
	if len(x) != ed25519.PublicKeySize {
		return nil, errors.New("x of an Ed25519 key is 32 bytes")
	}
	return ed25519.PublicKey(x), nil
}

// members reads the members of a key. err is the first mistake.
type members struct {
	of  map[string]json.RawMessage
	err error
}

func (m *members) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *members) text(name string) (s string) {
	if raw, ok := m.of[name]; ok && (json.Unmarshal(raw, &s) != nil || string(raw) == "null") {
		m.fail("its %s is no text", name)
	}
	return s
}

func (m *members) texts(name string) (list []string) {
	if raw, ok := m.of[name]; ok && json.Unmarshal(raw, &list) != nil {
		m.fail("its %s is no list of texts", name)
	}
	return list
}

// bytes reads base64url without padding, in its one spelling (RFC 7515 §2).
func (m *members) bytes(name string) []byte {
	text := m.text(name)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		m.fail("its %s is not base64url without padding", name)
	}
	return b
}
