package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"time"
)

// Credential is how this API proves to the authorization server that it is a
// registered resource server: solegate resource register --audience … makes
// one. Exactly one of Secret and Key must be set. It prints and logs as its ID.
type Credential struct {
	// ID is the resource server's identifier.
	ID string

	// Secret is for client_secret_basic (RFC 6749 §2.3.1): it is sent with
	// each request to the issuer, and to nobody else.
	Secret string

	// Key is for private_key_jwt (RFC 7523 §2.2): it signs, and nothing that
	// is secret is ever sent. It may be a key that never leaves its hardware.
	// A P-256 key signs ES256, an RSA key of 2048 bits at least PS256, an
	// Ed25519 key EdDSA. Sign is only called in the background.
	Key crypto.Signer

	// KeyID is the kid of Key in the registered key set. It may be empty if
	// that has one key.
	KeyID string
}

// assertionLife is how long an assertion is good: for the way to the server.
const assertionLife = time.Minute

// String returns the ID: a secret must not get into a log by chance.
func (c Credential) String() string { return "credential of " + c.ID }

// GoString returns what String does.
func (c Credential) GoString() string { return c.String() }

// LogValue returns what String does.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON refuses: a secret must not get into a document by chance.
func (c Credential) MarshalJSON() ([]byte, error) {
	return nil, errors.New("verify: a Credential is not for documents")
}

func (c *Credential) valid() error {
	switch {
	case c.ID == "":
		return errors.New("verify: Credential.ID is missing: the resource server's identifier is expected, as solegate resource register printed it")
	case (c.Secret == "") == (c.Key == nil):
		return errors.New("verify: Credential needs either a Secret, for client_secret_basic, or a Key, for private_key_jwt")
	case c.Key != nil:
		_, err := c.algorithm()
		return err
	}
	return nil
}

// basic puts client_secret_basic into a request's headers, if that is how the
// API authenticates: both parts form-encoded (RFC 6749 §2.3.1).
func (c *Credential) basic(r *http.Request) {
	if c.Key == nil {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
}

// assertion returns a new client assertion for the issuer (RFC 7523 §3), good
// for one request within a minute; or "" if the API authenticates by its
// secret. It belongs into the request's body as client_assertion, with
// reports.AssertionType as client_assertion_type.
func (c *Credential) assertion(issuer string, now time.Time) (string, error) {
	if c.Key == nil {
		return "", nil
	}
	algorithm, err := c.algorithm()
	if err != nil {
		return "", err
	}
	header := map[string]any{"alg": algorithm, "typ": "client-authentication+jwt"}
	if c.KeyID != "" {
		header["kid"] = c.KeyID
	}
	input := ""
	for _, part := range []map[string]any{header, {
		"iss": c.ID, "sub": c.ID, "aud": issuer, "jti": rand.Text(), // the issuer as one string: nobody else can be meant (RFC 10070)
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	}} {
		raw, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		if input != "" {
			input += "."
		}
		input += base64.RawURLEncoding.EncodeToString(raw)
	}
	signature, err := c.sign([]byte(input))
	if err != nil {
		return "", fmt.Errorf("Credential.Key can't sign: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// algorithm is the one that the key signs with.
func (c *Credential) algorithm() (string, error) {
	switch public := c.Key.Public().(type) {
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			return "ES256", nil
		}
	case ed25519.PublicKey:
		return "EdDSA", nil
	case *rsa.PublicKey:
		if public.N.BitLen() >= 2048 {
			return "PS256", nil
		}
	}
	return "", errors.New("verify: Credential.Key is of a kind that the server does not take: a P-256, an Ed25519 or an RSA key of 2048 bits at least is expected")
}

// sign signs as a JWS wants it (RFC 7518 §3.4, §3.5, RFC 8037 §3.1).
func (c *Credential) sign(input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	switch c.Key.Public().(type) {
	case ed25519.PublicKey:
		return c.Key.Sign(rand.Reader, input, crypto.Hash(0))
	case *rsa.PublicKey:
		return c.Key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	}
	der, err := c.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) > 0 || pair.R.Sign() <= 0 || pair.S.Sign() <= 0 || pair.R.BitLen() > 256 || pair.S.BitLen() > 256 {
		return nil, errors.New("its signature is no pair of 256-bit numbers in DER")
	}
	return append(pair.R.FillBytes(make([]byte, 32)), pair.S.FillBytes(make([]byte, 32))...), nil
}
