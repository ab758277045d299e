package clients

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"io"
	"slices"
)

// HasRedirectURI reports whether uri is registered: the same bytes. Nothing is
// normalised first (RFC 9700 §2.1).
func (c *Client) HasRedirectURI(uri string) bool {
	return slices.Contains(c.RedirectURIs, RedirectURI(uri))
}

// HasPostLogoutRedirectURI reports whether uri is registered: the same bytes.
func (c *Client) HasPostLogoutRedirectURI(uri string) bool {
	return slices.Contains(c.PostLogoutRedirectURIs, RedirectURI(uri))
}

// HasOrigin reports whether origin is registered: the same bytes.
func (c *Client) HasOrigin(origin string) bool { return slices.Contains(c.Origins, Origin(origin)) }

// HasAudience reports whether audience is registered: the same bytes.
func (c *Client) HasAudience(audience string) bool { return slices.Contains(c.Audiences, audience) }

// NewID returns a random identifier of 128 bits for a client, a resource
// server, a user or a session.
func NewID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// idEncoding makes identifiers that survive a shell, a URL and a double click.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSecret gives the resource server a new random secret of 256 bits and
// returns it. It is stored as a hash only: a hash of so much randomness needs
// no salt and no work factor.
func (rs *ResourceServer) NewSecret(rand io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	secret := "sgs_" + base64.RawURLEncoding.EncodeToString(b[:])
	rs.SecretHash = sha256.Sum256([]byte(secret))
	return secret, nil
}

// CheckSecret compares in constant time.
func (rs *ResourceServer) CheckSecret(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return rs.SecretHash != [32]byte{} && subtle.ConstantTimeCompare(sum[:], rs.SecretHash[:]) == 1
}

// Validate reports every mistake of the registration.
func (rs *ResourceServer) Validate() error {
	var errs []error
	if err := checkID(string(rs.ID)); err != nil {
		errs = append(errs, &FieldError{"resource server id", string(rs.ID), err.Error()})
	}
	if err := ParseAudience(rs.Audience); err != nil {
		errs = append(errs, &FieldError{"audience", rs.Audience, err.Error()})
	}
	return errors.Join(errs...)
}
