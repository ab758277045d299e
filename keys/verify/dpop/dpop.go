// Package dpop checks DPoP proofs (RFC 9449): a client shows with each request
// that it holds the private key to which its token is bound, so that the token
// alone is worth nothing. The authorization server and the APIs share it.
//
// An API does not call it: package verify does. What calls it reads the one
// header with [FromHeader], gives [Check] what the proof must be for, and then
//
//   - compares [Proof.JKT] with the key that the token is bound to, and
//   - asks its replay store whether [Proof.Replay] comes for the first time,
//     as the last check of all, so that a refused request uses up nothing.
//
// Check keeps nothing: the same proof passes as often as it is shown until it
// is too old.
//
// # What a proof must be
//
// It is a JWS in compact form of at most 4 KiB in canonical base64url, with no
// member twice; its typ is dpop+jwt; its header brings a public key and no
// private part of it: EC on P-256 for ES256, RSA of 2048 to 4096 bits for
// PS256, Ed25519 for EdDSA and Ed25519. No other algorithm passes, and no
// header that names another key or changes how the proof is read (jku, x5u,
// x5c, crit, b64). The signature is by that key. htm is the method; htu is the
// address, compared after the normalisation of RFC 3986 §6.2.2 and §6.2.3; iat
// is within the lifetime, or there is a nonce that is good; jti is there; with
// an access token, ath is its hash. exp and nbf need not be there and hold if
// they are.
package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// Bounds of a proof, in bytes.
const (
	maxProof = 4 << 10
	maxID    = 256
)

// Defaults of Expect.
const (
	DefaultLifetime = time.Minute
	DefaultLeeway   = 10 * time.Second
)

// Errors of FromHeader and Check, for errors.Is. What wraps them says why, for
// the log: it may quote some of what came, and must not go to the network.
var (
	ErrNone  = errors.New("dpop: there is no DPoP header")
	ErrProof = errors.New("dpop: the proof is refused")               // invalid_dpop_proof
	ErrNonce = errors.New("dpop: the proof needs the server's nonce") // use_dpop_nonce
)

// Proof is a DPoP proof that passed (RFC 9449 §4.3).
type Proof struct {
	JKT      string    // RFC 7638 SHA-256 thumbprint of its key, base64url, 43 characters
	ID       string    // jti
	IssuedAt time.Time // iat
	Nonce    string    // as it came, "" if none; checked if Expect.Nonces is set

	// Replay names this use of the proof: SHA-256 over the key, the jti and
	// the normalised address, not over the bytes, of which there are several
	// that verify. A replay store is keyed on it. The method is not in it: a
	// jti is good once at an address (RFC 9449 §11.1).
	Replay [32]byte

	// Expires is the whole second after which no server whose clock is within
	// the leeway accepts the proof: from then on a replay store may forget it.
	Expires time.Time
}

// Expect says what a proof must be for.
type Expect struct {
	// Method is the request's, exactly (htm).
	Method string

	// URI is the request's address as the public reaches it (htu). Its query
	// and fragment don't count. It must not be made of the Host header.
	URI string

	// AccessToken is the token that came with the proof: ath must be its
	// hash. If it is "", as at the token endpoint, ath is not looked at: RFC
	// 9449 §4.3 asks for it with an access token only.
	AccessToken string

	// Nonces, if not nil, are the server's (RFC 9449 §8). One that is good is
	// required, and says when the proof was made in place of iat: so a client
	// whose clock is wrong gets by (§4.3, point 11). A proof that has one is
	// held to it, and not to its iat.
	Nonces *Nonces

	// NonceOptional takes a proof without a nonce, too, if iat is in time. One
	// that is not learns by ErrNonce that there is another way.
	NonceOptional bool

	// Now is the time; it must be set.
	Now time.Time

	// Lifetime is how old a proof may be: DefaultLifetime if zero.
	Lifetime time.Duration

	// Leeway is how far the client's clock may be ahead or behind:
	// DefaultLeeway if zero, none if negative.
	Leeway time.Duration
}

// Algorithms returns what belongs in dpop_signing_alg_values_supported (RFC
// 9449 §5.1): ES256, PS256, EdDSA and Ed25519, as RFC 9864 names it.
func Algorithms() []string { return []string{"ES256", "PS256", "EdDSA", "Ed25519"} }

// FromHeader returns the request's one proof, as it came. The error is ErrNone
// if there is no DPoP header, or wraps ErrProof if there are several or it is
// empty.
func FromHeader(h http.Header) (string, error) {
	switch proofs := h["Dpop"]; {
	case len(proofs) == 0:
		return "", ErrNone
	case len(proofs) > 1:
		return "", refuse("there are %d DPoP headers, one is expected", len(proofs))
	case proofs[0] == "":
		return "", refuse("the DPoP header is empty")
	default:
		return proofs[0], nil
	}
}

// Check checks a proof by RFC 9449 §4.3. The error wraps ErrProof; or it wraps
// ErrNonce if all of the proof is good but the nonce, which is missing or no
// longer good, or but iat, and a nonce would do.
func Check(proof string, e Expect) (*Proof, error) {
	if e.Lifetime == 0 {
		e.Lifetime = DefaultLifetime
	}
	if e.Leeway == 0 {
		e.Leeway = DefaultLeeway
	}
	e.Leeway = max(e.Leeway, 0)
	if len(proof) > maxProof {
		return nil, refuse("it has %d bytes, at most %d are expected", len(proof), maxProof)
	}
	jws, err := strict.Compact(proof)
	if err != nil {
		return nil, refuse("%w", err)
	}
	var h header
	if err := strict.Object(jws.Header, h.member); err != nil {
		return nil, refuse("header: %w", err)
	}
	// typ is a media type that may be shortened, in any case (RFC 7515 §4.1.9).
	if typ := strings.TrimPrefix(strings.ToLower(h.typ), "application/"); typ != "dpop+jwt" {
		return nil, refuse("typ is %.40q, dpop+jwt is expected", h.typ)
	}
	k, err := h.key()
	if err != nil {
		return nil, refuse("header: %w", err)
	}
	var c claims
	if err := strict.Object(jws.Payload, c.member); err != nil {
		return nil, refuse("payload: %w", err)
	}
	// What costs little comes before the signature.
	uri, err := c.check(&e)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if !strict.Verify(h.algorithm, k.public, jws.Signed, jws.Signature) {
		return nil, refuse("the signature is wrong")
	}
	last, err := c.timely(&e)
	if err != nil {
		return nil, err
	}
	p := &Proof{JKT: k.thumbprint(), ID: c.id, IssuedAt: c.issued, Nonce: c.nonce}
	p.Replay = replay(p.JKT, c.id, uri)
	p.Expires = last.Add(2 * e.Leeway).Truncate(time.Second).Add(time.Second)
	return p, nil
}

// timely checks when the proof was made, by its nonce or by iat, and returns
// until when it is good by a clock that is right.
func (c *claims) timely(e *Expect) (last time.Time, err error) {
	early, late := c.issued.After(e.Now.Add(e.Leeway)), c.issued.Before(e.Now.Add(-e.Lifetime-e.Leeway))
	switch {
	case e.Nonces != nil && e.Nonces.Valid(c.nonce, e.Now):
		return e.Nonces.end(c.nonce), nil
	case e.Nonces != nil && c.nonce != "":
		return last, fmt.Errorf("%w: its own is not, or no longer, good", ErrNonce)
	case e.Nonces != nil && !e.NonceOptional:
		return last, fmt.Errorf("%w: it has none", ErrNonce)
	case e.Nonces != nil && (early || late):
		return last, fmt.Errorf("%w: it is of %s, and the client's clock may be wrong", ErrNonce, date(c.issued))
	case early:
		return last, refuse("it was made in the future, at %s: the client's clock may be ahead", date(c.issued))
	case late:
		return last, refuse("it is too old, of %s: the client's clock may be behind", date(c.issued))
	}
	return c.issued.Add(e.Lifetime), nil
}

// header is what a proof's header says.
type header struct{ typ, algorithm, jwk string }

func (h *header) member(name, value string) (err error) {
	switch name {
	case "typ":
		h.typ, err = strict.Text(value)
	case "alg":
		h.algorithm, err = strict.Text(value)
	case "jwk":
		h.jwk = value
	case "crit", "b64":
		return fmt.Errorf("%s is not understood", name)
	case "jku", "x5u", "x5c":
		return fmt.Errorf("%s names another key than jwk", name)
	}
	return err
}

// key returns the proof's key, which is of the kind that its algorithm is for.
func (h *header) key() (*publicKey, error) {
	if h.jwk == "" {
		return nil, errors.New("jwk is missing")
	}
	k, err := parseKey([]byte(h.jwk))
	if err != nil {
		return nil, err
	}
	if !k.serves(h.algorithm) {
		return nil, fmt.Errorf("alg is %.20q, which is not for a key of type %s", h.algorithm, k.kind)
	}
	return k, nil
}

// claims is what a proof says. Claims that are not known are left alone (RFC
// 9449 §4.2).
type claims struct {
	id, method, uri, hash, nonce string
	issued, expires, notBefore   time.Time
}

func (c *claims) member(name, value string) (err error) {
	switch name {
	case "jti":
		c.id, err = strict.Text(value)
	case "htm":
		c.method, err = strict.Text(value)
	case "htu":
		c.uri, err = strict.Text(value)
	case "ath":
		c.hash, err = strict.Text(value)
	case "nonce":
		c.nonce, err = strict.Text(value)
	case "iat":
		c.issued, err = strict.Date(value)
	case "exp":
		c.expires, err = strict.Date(value)
	case "nbf":
		c.notBefore, err = strict.Date(value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// check holds the claims to what is expected, except for when the proof was
// made. It returns the normalised address.
func (c *claims) check(e *Expect) (string, error) {
	switch {
	case c.id == "" || len(c.id) > maxID:
		return "", fmt.Errorf("jti has %d bytes, 1 to %d are expected", len(c.id), maxID)
	case c.method == "" || c.method != e.Method:
		return "", fmt.Errorf("htm is %.20q, %.20q is expected", c.method, e.Method)
	case c.issued.IsZero():
		return "", errors.New("iat is missing")
	case !c.expires.IsZero() && !e.Now.Before(c.expires.Add(e.Leeway)):
		return "", fmt.Errorf("it expired at %s", date(c.expires))
	case c.notBefore.After(e.Now.Add(e.Leeway)):
		return "", fmt.Errorf("it is not valid before %s", date(c.notBefore))
	}
	got, err := normalise(c.uri)
	if err != nil {
		return "", fmt.Errorf("htu: %w", err)
	}
	want, err := normalise(e.URI)
	if err != nil {
		return "", fmt.Errorf("the request's own address: %w", err)
	}
	if got != want {
		// As compared: a client that is mistaken may have a secret in the query.
		return "", fmt.Errorf("htu is %.200q, %.200q is expected", got, want)
	}
	if e.AccessToken != "" {
		sum := sha256.Sum256([]byte(e.AccessToken))
		ath := base64.RawURLEncoding.EncodeToString(sum[:])
		if subtle.ConstantTimeCompare([]byte(ath), []byte(c.hash)) != 1 {
			return "", errors.New("ath is not the hash of the access token")
		}
	}
	return want, nil
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// replay hashes what identifies a use, each with its length so that no two
// uses are written alike.
func replay(parts ...string) [32]byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// refuse is a bad proof; the reason is for the log.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
}
