package clients

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// secretHash is the SHA-256 of a secret, all that is stored of it: a hash of so
// much randomness needs no salt and no work factor.
type secretHash [sha256.Size]byte

func (h secretHash) fits(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return h != secretHash{} && subtle.ConstantTimeCompare(sum[:], h[:]) == 1
}

// newSecret returns a random secret of 256 bits and its hash.
func newSecret(rand io.Reader) (string, secretHash, error) {
	var b [32]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", secretHash{}, err
	}
	secret := "sgs_" + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, sha256.Sum256([]byte(secret)), nil
}

// NewSecret gives the client a new random secret of 256 bits and returns it. It
// is stored as a hash only. An error is rand's.
func (c *Client) NewSecret(rand io.Reader) (string, error) {
	secret, hash, err := newSecret(rand)
	if err == nil {
		c.SecretHash = hash
	}
	return secret, err
}

// NewSecret gives the resource server a new random secret of 256 bits and
// returns it. It is stored as a hash only. An error is rand's.
func (rs *ResourceServer) NewSecret(rand io.Reader) (string, error) {
	secret, hash, err := newSecret(rand)
	if err == nil {
		rs.SecretHash = hash
	}
	return secret, err
}

// CheckSecret reports whether it is the client's secret, in constant time. A
// client without one has none that fits.
func (c *Client) CheckSecret(secret string) bool { return secretHash(c.SecretHash).fits(secret) }

// CheckSecret reports whether it is the resource server's secret, in constant
// time. One without a secret has none that fits.
func (rs *ResourceServer) CheckSecret(secret string) bool {
	return secretHash(rs.SecretHash).fits(secret)
}

// Bounds of a secret that was not made by NewSecret. 32 characters of hex are
// 128 bits (RFC 6749 §10.10); a hash without a work factor protects no less.
const (
	minSecret   = 32
	maxSecret   = 200
	minDistinct = 8 // of 32 random digits of hex fewer differ once in twenty million times
)

// SetSecret gives the client a secret that was made elsewhere. It must be a
// random one; what plainly is none is refused, and no error says what it was.
func (c *Client) SetSecret(secret string) error {
	distinct := map[rune]bool{}
	for _, r := range secret { // VSCHAR of RFC 6749 appendix A, without space
		if r <= ' ' || r > '~' {
			return errors.New("the secret has white space, a control character or one that is not ASCII")
		}
		distinct[r] = true
	}
	if len(secret) < minSecret || len(secret) > maxSecret || len(distinct) < minDistinct {
		return fmt.Errorf("the secret is not %d to %d random characters: make one with `openssl rand -hex 32`", minSecret, maxSecret)
	}
	c.SecretHash = sha256.Sum256([]byte(secret))
	return nil
}
