package oauth

import (
	"slices"
	"strings"
)

// Grant types.
const (
	AuthorizationCode = "authorization_code" // RFC 6749 §4.1.3
	RefreshToken      = "refresh_token"      // RFC 6749 §6
	ClientCredentials = "client_credentials" // RFC 6749 §4.4
)

// Scopes with a meaning of their own.
const (
	OpenID        = "openid"         // OpenID Connect Core §3.1.2.1: an ID token
	Profile       = "profile"        // OpenID Connect Core §5.4
	Email         = "email"          // OpenID Connect Core §5.4
	OfflineAccess = "offline_access" // OpenID Connect Core §11: a refresh token
)

// SplitScope returns the scopes of a scope parameter (RFC 6749 §3.3), each
// once, in the order they first appear.
func SplitScope(s string) []string {
	if s == "" {
		return nil
	}
	var scopes []string
	for scope := range strings.SplitSeq(s, " ") {
		if scope != "" && !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// JoinScope is the scope parameter or claim for scopes.
func JoinScope(scopes []string) string { return strings.Join(scopes, " ") }

// Has reports whether list holds value, compared byte for byte.
func Has(list []string, value string) bool { return slices.Contains(list, value) }
