package clients

import "slices"

// Method is how the client authenticates, None if nothing is said.
func (c *Client) Method() AuthMethod {
	if c.AuthMethod == "" {
		return None
	}
	return c.AuthMethod
}

// Method is how the resource server authenticates, SecretBasic if nothing is
// said.
func (rs *ResourceServer) Method() AuthMethod {
	if rs.AuthMethod == "" {
		return SecretBasic
	}
	return rs.AuthMethod
}

// Confidential reports whether the client has a credential (RFC 6749 §2.1).
func (c *Client) Confidential() bool { return c.Method() != None }

// EndsGrants reports whether all grants of the client end when it becomes next:
// it is disabled, or its credential is taken away. What a confidential client
// holds is worth nothing without the credential, so it was not guarded like what
// a public one holds: a refresh token that doesn't rotate lies in a database.
func (c *Client) EndsGrants(next Client) bool {
	return next.Disabled && !c.Disabled || c.Confidential() && !next.Confidential()
}

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

// The grant types (RFC 6749).
const (
	authorizationCode = "authorization_code"
	refreshToken      = "refresh_token"
	clientCredentials = "client_credentials"
)

// GrantTypes are those that a client may be registered for.
func GrantTypes() []string { return []string{authorizationCode, refreshToken, clientCredentials} }

// HasGrantType reports whether the client may use the grant type.
func (c *Client) HasGrantType(grant string) bool {
	if len(c.GrantTypes) == 0 {
		return grant == authorizationCode || grant == refreshToken
	}
	return slices.Contains(c.GrantTypes, grant)
}
