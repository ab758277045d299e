package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/clients"
)

// addClientFlags are the flags of what a client is.
func addClientFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArray("redirect-uri", nil, "where the app is sent back to after the login; may be given again")
	f.StringArray("post-logout-redirect-uri", nil, "where the app is sent back to after the logout; may be given again")
	f.StringArray("origin", nil, "where the app is served; may be given again; a backend has none")
	f.StringArray("audience", nil, "identifier of the API; may be given again, the first is the default")
	f.StringArray("scope", nil, "what the app may ask for; may be given again (default openid, profile, email, offline_access)")
	f.String("name", "", "the name that people see when they sign in")
	f.String("id-token-alg", "", "how ID tokens are signed: ES256 (default), RS256, PS256 or EdDSA")
	f.Bool("refresh-id-token", false, "also give an ID token at a refresh that asks for openid")
	f.Bool("consent", false, "ask people before the app gets access")
	f.Duration("access-token-life", 0, "a shorter life of access tokens than the server's")
	f.Duration("refresh-idle", 0, "a shorter idle life of grants than the server's")
	f.Duration("refresh-life", 0, "a shorter life of grants than the server's")

	f.String("auth-method", "", "how a backend proves who it is: client_secret_basic (a secret is made and shown once) or private_key_jwt (it signs, and no secret is ever sent); none (default) for an app in a browser, which can't keep a secret")
	jwksFlag(cmd, "backend")
	f.StringArray("grant-type", nil, "what it may get tokens by; may be given again: authorization_code and refresh_token (default) when people log in, client_credentials when a backend asks for itself")
	f.String("profile", "", `hardened for an app whose tokens are worth nothing when stolen: pushed requests, DPoP with a nonce, no bearer tokens; "" for none`)
	f.Bool("require-par", false, "refuse logins whose request was not pushed to the server first (PAR); the library has to speak it, oidc-client-ts does not")
	f.Bool("require-dpop", false, "refuse to give tokens that are not bound to a key of the app's (DPoP); without it they are bound if the app asks for it")
	f.Bool("require-dpop-nonce", false, "ask for a fresh nonce of the server's in every DPoP proof, so that none can be made ahead")
	f.Bool("optional-pkce", false, "for a backend whose library can't do PKCE: let it come without if it sends a nonce")
	f.String("backchannel-logout-uri", "", "where a backend is told that a person has logged out, so that it ends its own session")
}

func jwksFlag(cmd *cobra.Command, whose string) {
	cmd.Flags().String("jwks", "", "`FILE` with the "+whose+"'s public keys as a JSON Web Key Set, for private_key_jwt; - for standard input")
}

// clientFlags puts the flags that were given into c. The secret is a new one,
// if the client needs one and has none.
func (a *app) clientFlags(cmd *cobra.Command, c *clients.Client) (secret string, err error) {
	f := cmd.Flags()
	lists := map[string]func([]string){
		"redirect-uri":             func(v []string) { c.RedirectURIs = as[clients.RedirectURI](v) },
		"post-logout-redirect-uri": func(v []string) { c.PostLogoutRedirectURIs = as[clients.RedirectURI](v) },
		"origin":                   func(v []string) { c.Origins = as[clients.Origin](v) },
		"audience":                 func(v []string) { c.Audiences = v },
		"scope":                    func(v []string) { c.Scopes = v },
		"grant-type":               func(v []string) { c.GrantTypes = v },
	}
	for name, set := range lists {
		if f.Changed(name) {
			v, _ := f.GetStringArray(name)
			set(v)
		}
	}
	for name, p := range map[string]*string{
		"name": &c.Name, "id-token-alg": &c.IDTokenAlg, "profile": (*string)(&c.Profile), "backchannel-logout-uri": &c.BackchannelLogoutURI,
	} {
		if f.Changed(name) {
			*p, _ = f.GetString(name)
		}
	}
	for name, p := range map[string]*bool{
		"consent": &c.Consent, "refresh-id-token": &c.RefreshIDToken, "optional-pkce": &c.OptionalPKCE,
		"require-par": &c.RequirePAR, "require-dpop": &c.RequireDPoP, "require-dpop-nonce": &c.RequireDPoPNonce,
	} {
		if f.Changed(name) {
			*p, _ = f.GetBool(name)
		}
	}
	for name, p := range map[string]*time.Duration{"access-token-life": &c.AccessTokenLife, "refresh-idle": &c.RefreshIdle, "refresh-life": &c.RefreshLife} {
		if f.Changed(name) {
			*p, _ = f.GetDuration(name)
		}
	}
	return a.credentialFlags(cmd, credential{&c.AuthMethod, &c.JWKS, &c.SecretHash, c.Method, c.NewSecret})
}

// credential is that of a client or a resource server.
type credential struct {
	authMethod *clients.AuthMethod
	jwks       *json.RawMessage
	secretHash *[32]byte
	method     func() clients.AuthMethod
	newSecret  func(io.Reader) (string, error)
}

// credentialFlags puts --auth-method and --jwks into a credential, and returns
// the secret if a new one was needed.
func (a *app) credentialFlags(cmd *cobra.Command, c credential) (secret string, err error) {
	f := cmd.Flags()
	if f.Changed("auth-method") {
		text, _ := f.GetString("auth-method")
		*c.authMethod = clients.AuthMethod(text)
		// What is left of the method before would be good again one day.
		if c.method() != clients.SecretBasic {
			*c.secretHash = [32]byte{}
		}
		if c.method() != clients.PrivateKeyJWT {
			*c.jwks = nil
		}
	}
	if f.Changed("jwks") {
		path, _ := f.GetString("jwks")
		if *c.jwks, err = readJWKS(a.stdin, path); err != nil {
			return "", err
		}
	}
	if c.method() == clients.SecretBasic && *c.secretHash == [32]byte{} {
		return c.newSecret(rand.Reader)
	}
	return "", nil
}

// readJWKS reads a key set from a file, or from stdin if the path is -. What
// is in it is for the client's Validate to judge, and too much of it, too.
func readJWKS(stdin io.Reader, path string) (json.RawMessage, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = readSome(stdin)
	} else {
		text, err = readFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("key set: %s is empty: the public keys as a JSON Web Key Set are expected", path)
	}
	return text, nil
}

// readFile reads a small file; of another one it reads the beginning, which is
// more than anything that is read by it may be long.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSome(f)
}

func readSome(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, 64<<10)) }
