package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/storage"
)

// rsaBits is the size of RSA keys: what RFC 7518 §3.3 asks for at least. A
// signature of 3072 bits takes three times as long, and a key lives 90 days.
const rsaBits = 2048

// key is a signing key, opened.
type key struct {
	storage.Key
	algorithm Algorithm
	private   crypto.Signer
	public    crypto.PublicKey
}

func keyPurpose(kid string) string { return "signing key " + kid }

// generate makes a key that is published at created and signs from active.
func (r *Ring) generate(a Algorithm, created, active time.Time) (storage.Key, error) {
	var private crypto.Signer
	var err error
	switch a {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case RS256, PS256:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		err = fmt.Errorf("algorithm %q is not supported", a)
	}
	if err != nil {
		return storage.Key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return storage.Key{}, err
	}
	var id [10]byte
	if _, err := io.ReadFull(r.config.Rand, id[:]); err != nil {
		return storage.Key{}, err
	}
	// Lower-case letters and digits: a kid is typed into commands.
	kid := strings.ToLower(base32.StdEncoding.EncodeToString(id[:]))
	public, err := json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: kid, Algorithm: string(a), Use: "sig"})
	if err != nil {
		return storage.Key{}, err
	}
	return storage.Key{
		ID: kid, Algorithm: string(a), Sealed: r.config.Master.Seal(keyPurpose(kid), der), Public: public,
		CreatedAt: created, ActiveAt: active,
	}, nil
}

// openKey unseals a key and proves that the stored public half is its own:
// what is published must be what signs.
func openKey(m Master, k storage.Key) (*key, error) {
	der, err := m.Open(keyPurpose(k.ID), k.Sealed)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the sealed key is damaged: restore the store from a backup")
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T does not sign", parsed)
	}
	opened := &key{Key: k, algorithm: Algorithm(k.Algorithm), private: private, public: private.Public()}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(k.Public, &jwk); err != nil {
		return nil, fmt.Errorf("its public half is damaged: %w", err)
	}
	if p, ok := jwk.Key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(opened.public) || jwk.KeyID != k.ID {
		return nil, errors.New("its public half is another key's: the store was altered")
	}
	fits := false
	switch private.(type) {
	case *ecdsa.PrivateKey:
		fits = opened.algorithm == ES256
	case ed25519.PrivateKey:
		fits = opened.algorithm == EdDSA
	case *rsa.PrivateKey:
		fits = opened.algorithm == RS256 || opened.algorithm == PS256
	}
	if !fits {
		return nil, fmt.Errorf("a %T can't sign %s: the store was altered", private, k.Algorithm)
	}
	return opened, nil
}

var b64 = base64.RawURLEncoding

// decode reads base64url in its one canonical spelling. The standard library
// skips line breaks even where it is strict.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line break in base64url")
	}
	return b64.Strict().DecodeString(text)
}

// Signer returns the kid of the key that Sign would sign with now, or "".
func (r *Ring) Signer(a Algorithm) string {
	if k := r.snap.Load().active(a, r.config.Now()); k != nil {
		return k.ID
	}
	return ""
}

// Sign signs claims, a JSON object, and returns the JWS in compact form with
// alg, kid and typ in its header (RFC 7515 §7.1).
func (r *Ring) Sign(a Algorithm, typ string, claims []byte) (string, error) {
	k := r.snap.Load().active(a, r.config.Now())
	if k == nil {
		return "", fmt.Errorf("no active %s key", a)
	}
	header := `{"alg":"` + string(a) + `","kid":"` + k.ID + `","typ":"` + typ + `"}`
	out := make([]byte, 0, b64.EncodedLen(len(header))+b64.EncodedLen(len(claims))+2+b64.EncodedLen(rsaBits/8))
	out = b64.AppendEncode(out, []byte(header))
	out = append(out, '.')
	out = b64.AppendEncode(out, claims)
	signature, err := k.sign(out)
	if err != nil {
		return "", err
	}
	out = append(out, '.')
	out = b64.AppendEncode(out, signature)
	return string(out), nil
}

func (k *key) sign(input []byte) ([]byte, error) {
	if k.algorithm == EdDSA {
		return k.private.Sign(nil, input, crypto.Hash(0))
	}
	digest := sha256.Sum256(input)
	switch k.algorithm {
	case ES256:
		// RFC 7518 §3.4: r and s in 32 bytes each, not ASN.1.
		rr, ss, err := ecdsa.Sign(rand.Reader, k.private.(*ecdsa.PrivateKey), digest[:])
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 64)
		rr.FillBytes(signature[:32])
		ss.FillBytes(signature[32:])
		return signature, nil
	case PS256:
		return k.private.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	default:
		return k.private.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
}

// ErrToken says that a token is none that this ring signed.
var ErrToken = errors.New("not a token of this server")

// maxToken bounds what Verify looks at, in bytes.
const maxToken = 8 << 10

// Verify returns the payload of a JWS in compact form that a published key of
// this ring signed and whose typ is the given one. What the claims say, expiry
// too, is the caller's business. Every refusal is ErrToken.
func (r *Ring) Verify(compact, typ string) ([]byte, error) {
	if len(compact) > maxToken {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrToken, len(compact))
	}
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: it has %d parts", ErrToken, len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decode(part); err != nil {
			return nil, fmt.Errorf("%w: not canonical base64url", ErrToken)
		}
	}
	var header struct {
		Algorithm Algorithm `json:"alg"`
		KeyID     string    `json:"kid"`
		Type      string    `json:"typ"`
	}
	// What Sign writes has these three members; a header with another one,
	// such as crit or jwk, is not ours.
	d := json.NewDecoder(strings.NewReader(string(decoded[0])))
	d.DisallowUnknownFields()
	if err := d.Decode(&header); err != nil || d.More() {
		return nil, fmt.Errorf("%w: foreign header", ErrToken)
	}
	k := r.snap.Load().byID[header.KeyID]
	if k == nil || header.Algorithm != k.algorithm || header.Type != typ {
		return nil, fmt.Errorf("%w: kid, alg or typ does not fit", ErrToken)
	}
	if !k.verify([]byte(compact[:len(compact)-len(parts[2])-1]), decoded[2]) {
		return nil, fmt.Errorf("%w: wrong signature", ErrToken)
	}
	return decoded[1], nil
}

func (k *key) verify(input, signature []byte) bool {
	return VerifySignature(k.algorithm, k.public, input, signature)
}

// VerifySignature reports whether signature is one of input by the private half
// of public, by the algorithm: one of [Algorithms], or Ed25519, which is EdDSA
// by its newer name (RFC 9864 §2.2). It is false, too, where the key is of
// another kind than the algorithm's.
func VerifySignature(a Algorithm, public crypto.PublicKey, input, signature []byte) bool {
	digest := sha256.Sum256(input)
	switch public := public.(type) {
	case ed25519.PublicKey:
		return (a == EdDSA || a == "Ed25519") && ed25519.Verify(public, input, signature)
	case *ecdsa.PublicKey:
		return a == ES256 && public.Curve == elliptic.P256() && len(signature) == 64 &&
			ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case *rsa.PublicKey:
		switch a {
		case PS256:
			return rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		case RS256:
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
		}
	}
	return false
}
