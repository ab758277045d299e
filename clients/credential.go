package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AuthMethods are how a client may authenticate.
func AuthMethods() []AuthMethod { return []AuthMethod{None, SecretBasic, PrivateKeyJWT} }

// checkCredential checks that there is the one credential that the method is
// about, and no other: one that is left over would be good at a later change.
// It gives the key set the one form in which a store returns it.
func checkCredential(method AuthMethod, allowed []AuthMethod, hash secretHash, jwks *json.RawMessage, wrong func(field, value, problem string)) {
	if !slices.Contains(allowed, method) {
		wrong("auth_method", string(method), oneOf(allowed))
		return
	}
	switch hasSecret := hash != (secretHash{}); {
	case hasSecret && method != SecretBasic:
		wrong("secret", "", fmt.Sprintf("there is none with the auth_method %s", method))
	case !hasSecret && method == SecretBasic:
		wrong("secret", "", "there is none, and the auth_method client_secret_basic needs one")
	}
	if len(*jwks) == 0 {
		*jwks = nil
		if method == PrivateKeyJWT {
			wrong("jwks", "", "the auth_method private_key_jwt needs one: the key set with the public keys")
		}
		return
	}
	if method != PrivateKeyJWT {
		wrong("jwks", "", fmt.Sprintf("there is none with the auth_method %s: it is for private_key_jwt", method))
	}
	_, errs := parseJWKS(*jwks)
	for _, err := range errs {
		wrong("jwks", "", err.Error())
	}
	if compact, err := json.Marshal(*jwks); err == nil && len(errs) == 0 {
		*jwks = compact
	}
}

// Validate reports every mistake of the registration, joined, each a
// [*FieldError], and gives the key set the form in which it is stored.
func (rs *ResourceServer) Validate() error {
	var errs []error
	wrong := func(field, value, problem string) {
		errs = append(errs, &FieldError{field, value, problem})
	}
	if err := checkID(string(rs.ID)); err != nil {
		wrong("resource server id", string(rs.ID), err.Error())
	}
	if err := ParseAudience(rs.Audience); err != nil {
		wrong("audience", rs.Audience, err.Error())
	}
	checkCredential(rs.Method(), []AuthMethod{SecretBasic, PrivateKeyJWT}, rs.SecretHash, &rs.JWKS, wrong)
	return errors.Join(errs...)
}

// checkPolicy checks what a client may do, and how.
func (c *Client) checkPolicy(wrong func(field, value, problem string)) {
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = nil
	}
	for _, grant := range c.GrantTypes {
		switch {
		case !slices.Contains(GrantTypes(), grant):
			wrong("grant_type", grant, oneOf(GrantTypes()))
		case grant == clientCredentials && !c.Confidential():
			wrong("grant_type", grant, "it is for confidential clients only (RFC 6749 §4.4): what is in a browser proves nothing")
		case grant == refreshToken && !c.HasGrantType(authorizationCode):
			wrong("grant_type", grant, "refresh tokens come of a login: add authorization_code")
		}
	}
	once(c.GrantTypes, "grant_type", len(GrantTypes()), wrong)
	if c.withoutPeople() {
		for _, s := range []string{"openid", "offline_access"} {
			if slices.Contains(c.Scopes, s) {
				wrong("scope", s, "it is about a login, and with client_credentials alone nobody logs in")
			}
		}
	}
	if c.Profile != "" && c.Profile != Hardened {
		wrong("profile", string(c.Profile), "hardened is expected, or none")
	}
	if c.Profile == Hardened && c.Method() == SecretBasic {
		wrong("profile", string(c.Profile), "a secret is sent with every request and can be stolen: FAPI 2.0 Security Profile §5.3.2.1 asks for private_key_jwt")
	}
	if c.Profile == Hardened && c.IDTokenAlg == "RS256" {
		wrong("id_token_alg", c.IDTokenAlg, "the hardened profile has ES256, PS256 and EdDSA only (FAPI 2.0 Security Profile §5.4.1)")
	}
	if c.OptionalPKCE && !c.Confidential() {
		wrong("optional_pkce", "", "a public client never comes without PKCE (RFC 9700 §2.1.1)")
	}
}

// withoutPeople reports whether the client only ever asks for itself: it has
// client_credentials and no other grant.
func (c *Client) withoutPeople() bool {
	return c.HasGrantType(clientCredentials) && !c.HasGrantType(authorizationCode)
}

// ParseLogoutURI returns s if logout tokens may be sent there (OpenID Connect
// Back-Channel Logout 1.0 §2.2): https with a host, with any path and query.
// With development set, http is allowed on loopback. What address the host
// stands for is for the sender to check, at each delivery.
func ParseLogoutURI(s string, development bool) (string, error) {
	if err := checkURL(s, development); err != nil {
		return "", err
	}
	return s, nil
}

// oneOf is the problem of a word that is none of these.
func oneOf[S ~string](words []S) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return "one of " + strings.Join(texts, ", ") + " is expected"
}
