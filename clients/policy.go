package clients

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// Confidential reports whether the client has a credential (RFC 6749 §2.1).
func (c *Client) Confidential() bool { return c.AuthMethod != "" && c.AuthMethod != None }

// MustPush reports whether an authorization request has to be pushed
// (RFC 9126 §6).
func (c *Client) MustPush() bool { return c.RequirePAR || c.Profile == Hardened }

// MustProve reports whether every token is bound to a key (RFC 9449 §5.2).
func (c *Client) MustProve() bool { return c.RequireDPoP || c.Profile == Hardened }

// MustHaveNonce reports whether a DPoP proof needs a nonce of the server's
// (RFC 9449 §8).
func (c *Client) MustHaveNonce() bool { return c.RequireDPoPNonce || c.Profile == Hardened }

// MayOmitPKCE reports whether an OpenID Connect request with a nonce may come
// without a code challenge (RFC 9700 §2.1.1).
func (c *Client) MayOmitPKCE() bool {
	return c.OptionalPKCE && c.Confidential() && c.Profile != Hardened
}

// HasGrantType reports whether the client may use the grant type.
func (c *Client) HasGrantType(grant string) bool {
	if len(c.GrantTypes) == 0 {
		return grant == "authorization_code" || grant == "refresh_token"
	}
	return slices.Contains(c.GrantTypes, grant)
}

// CheckSecret compares in constant time.
func (c *Client) CheckSecret(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return c.SecretHash != [32]byte{} && subtle.ConstantTimeCompare(sum[:], c.SecretHash[:]) == 1
}
