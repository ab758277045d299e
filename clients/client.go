// Package clients describes who may ask for tokens and who may check them: the
// one single-page app, or a backend beside it (a [Client]), and the API that
// they call (a [ResourceServer]).
//
// The package does no I/O. A Client that came out of [Client.Validate] without
// an error is safe to serve: its redirect URIs and origins are exact strings
// that are compared whole, byte for byte, and never normalised (RFC 9700 §2.1).
// It has the one credential that its AuthMethod is about: a secret, which
// [Client.CheckSecret] compares, or public keys, which [Client.Keys] returns; a
// public client has none.
package clients

import (
	"encoding/json"
	"time"
)

// ID is a client identifier (RFC 6749 §2.2). It is not a secret.
type ID string

// RedirectURI is a registered redirection endpoint. It only compares whole:
// two RedirectURIs are the same if every byte is (RFC 9700 §2.1).
type RedirectURI string

// Origin is a web origin in its serialised form, such as
// "https://app.example.com" (RFC 6454 §6.2): no path, no trailing slash, no
// default port. It only compares whole.
type Origin string

// AuthMethod is how a client authenticates (RFC 7591 §2,
// token_endpoint_auth_method).
type AuthMethod string

// The authentication methods. A client with None is public (RFC 6749 §2.1); one
// with another is confidential.
const (
	None          AuthMethod = "none"
	SecretBasic   AuthMethod = "client_secret_basic"
	PrivateKeyJWT AuthMethod = "private_key_jwt"
)

// Profile names a set of requirements that are switched on together.
type Profile string

// Hardened asks all that FAPI 2.0 asks of a client, but that it be
// confidential: pushed authorization requests, DPoP with a server nonce, and no
// bearer token. With private_key_jwt it is the FAPI 2.0 Security Profile.
const Hardened Profile = "hardened"

// Client is the registered single-page app: a public client (RFC 6749 §2.1)
// that is told from others by PKCE, its redirect URIs and its origins. Or it is
// a backend: a confidential client with one credential of its own.
type Client struct {
	ID   ID     `json:"id"`
	Name string `json:"name"` // shown to the person who logs in

	// AuthMethod is how the client proves who it is; empty means None.
	AuthMethod AuthMethod `json:"token_endpoint_auth_method,omitempty"`
	// SecretHash is the SHA-256 of the random secret, for SecretBasic.
	SecretHash [32]byte `json:"secret_hash,omitzero"`
	// JWKS is the client's JSON Web Key Set (RFC 7517 §5) with its public
	// keys, for PrivateKeyJWT. There is no jwks_uri: nothing is ever fetched.
	JWKS json.RawMessage `json:"jwks,omitempty"`

	// GrantTypes are the grants that the client may use; none means
	// authorization_code and refresh_token. Only a confidential client may
	// have client_credentials.
	GrantTypes []string `json:"grant_types,omitempty"`

	// Profile switches on what it names, whatever the fields below say.
	Profile Profile `json:"profile,omitempty"`
	// RequirePAR refuses authorization requests that were not pushed
	// (RFC 9126 §6).
	RequirePAR bool `json:"require_pushed_authorization_requests,omitempty"`
	// RequireDPoP refuses token requests without a DPoP proof (RFC 9449 §5.2).
	// Without it a proof that is sent binds the tokens all the same.
	RequireDPoP bool `json:"dpop_bound_access_tokens,omitempty"`
	// RequireDPoPNonce refuses proofs without a nonce of the server's
	// (RFC 9449 §8).
	RequireDPoPNonce bool `json:"dpop_nonce,omitempty"`
	// OptionalPKCE lets a confidential OpenID Connect client come without
	// PKCE if it sends a nonce (RFC 9700 §2.1.1). A public client never may.
	OptionalPKCE bool `json:"optional_pkce,omitempty"`

	// BackchannelLogoutURI is where a logout token is sent when a session of
	// the client's ends (OpenID Connect Back-Channel Logout 1.0 §2.2).
	BackchannelLogoutURI string `json:"backchannel_logout_uri,omitempty"`

	RedirectURIs           []RedirectURI `json:"redirect_uris"`
	PostLogoutRedirectURIs []RedirectURI `json:"post_logout_redirect_uris,omitempty"`

	// Origins are the web origins from which a browser may call /token, /par,
	// /revoke and /userinfo.
	Origins []Origin `json:"origins"`

	// Audiences are the resource servers that this client may ask tokens for
	// (RFC 8707). The first one is the default. None equals a client id.
	Audiences []string `json:"audiences"`

	// Scopes are what the client may ask for, compared exactly.
	Scopes []string `json:"scopes"`

	// Consent asks the person before the first token, and again when the
	// client asks for more. A first-party SPA does not need it.
	Consent bool `json:"consent,omitempty"`

	// IDTokenAlg is id_token_signed_response_alg (OpenID Connect Dynamic
	// Client Registration §2): RS256, ES256, PS256 or EdDSA.
	IDTokenAlg string `json:"id_token_signed_response_alg"`

	// RefreshIDToken also issues an ID token at a refresh whose scope asks
	// for openid. Off by default: it costs a second signature.
	RefreshIDToken bool `json:"refresh_id_token,omitempty"`

	// AccessTokenLife, RefreshIdle and RefreshLife override the server's
	// defaults; zero keeps them. They may only shorten.
	AccessTokenLife time.Duration `json:"access_token_life,omitempty"`
	RefreshIdle     time.Duration `json:"refresh_idle,omitempty"`
	RefreshLife     time.Duration `json:"refresh_life,omitempty"`

	// Development allows http on loopback in RedirectURIs and Origins. A
	// server outside development mode does not serve such a client.
	Development bool `json:"development,omitempty"`

	// Disabled ends the client: no login, no token, no refresh.
	Disabled bool `json:"disabled,omitempty"`

	// Epoch is another one whenever all grants of the client have ended:
	// enabling it again does not bring back what was issued before. A grant
	// remembers the one that it is of. It begins at the time of registration,
	// so a client that is registered again under an old ID is not that client.
	Epoch uint64 `json:"epoch,omitempty"`

	// Declared is set when the configuration file holds this client. The
	// command line then refuses to change it: the file would win.
	Declared bool `json:"declared,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// Version tells this state of the record from every other, for
	// compare-and-swap: also from those of a client with the same ID that was
	// removed. The store sets it.
	Version uint64 `json:"-"`
}

// ResourceServer is an API with a credential of its own. It needs one only to
// introspect (RFC 7662): verifying tokens locally takes none.
type ResourceServer struct {
	// ID is the user name of its HTTP Basic credential, or the iss and sub of
	// its assertions.
	ID ID `json:"id"`
	// Audience is the aud of the tokens that it may ask about, no others.
	Audience string `json:"audience"`
	Name     string `json:"name,omitempty"`
	// AuthMethod is how it proves who it is: SecretBasic, which empty means
	// too, or PrivateKeyJWT.
	AuthMethod AuthMethod `json:"auth_method,omitempty"`
	// SecretHash is the SHA-256 of the random secret, the password of its
	// HTTP Basic credential.
	SecretHash [32]byte `json:"secret_hash"`
	// JWKS is its JSON Web Key Set (RFC 7517 §5) with its public keys, for
	// PrivateKeyJWT.
	JWKS      json.RawMessage `json:"jwks,omitempty"`
	Disabled  bool            `json:"disabled,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
	Version   uint64          `json:"-"`
}
