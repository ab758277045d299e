package main

import (
	"fmt"
	"strings"

	"github.com/solegate/solegate/clients"
)

// registered is what one needs after a registration: for the app or the
// backend, and for the API.
func registered(c clients.Client, issuer, secret string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Registered. The client id is\n\n  %s\n\n", c.ID)
	switch {
	case c.Confidential():
		forBackend(&b, c, issuer, secret)
	case c.MustPush():
		forPushingApp(&b, c, issuer)
	default:
		forApp(&b, c, issuer)
	}
	fmt.Fprintf(&b, api, issuer, c.Audiences[0], issuer, c.Audiences[0], issuer)
	if c.MustProve() {
		b.WriteString("\nThe tokens are bound to a key, so the API asks for a DPoP proof beside each one:\nsee keys/verify/README.md.\n")
	}
	return b.String()
}

// forApp writes the settings of oidc-client-ts.
func forApp(b *strings.Builder, c clients.Client, issuer string) {
	fmt.Fprintf(b, "In the app (oidc-client-ts):\n\n  new UserManager({\n    authority: %q,\n    client_id: %q,\n    redirect_uri: %q,\n", issuer, c.ID, c.RedirectURIs[0])
	if len(c.PostLogoutRedirectURIs) > 0 { // a line only if it is registered: any other is refused
		fmt.Fprintf(b, "    post_logout_redirect_uri: %q,\n", c.PostLogoutRedirectURIs[0])
	}
	fmt.Fprintf(b, "    scope: %q,\n", strings.Join(c.Scopes, " "))
	if c.MustProve() {
		b.WriteString("    dpop: { bind_authorization_code: true, store: new IndexedDbDPoPStore() },\n")
	}
	b.WriteString("  })\n\n")
}

// forPushingApp writes how openid-client begins a login.
func forPushingApp(b *strings.Builder, c clients.Client, issuer string) {
	fmt.Fprintf(b, "In the app (openid-client):\n\n  const server = await client.discovery(new URL(%q), %q, undefined, client.None())\n", issuer, c.ID)
	dpop := ""
	if c.MustProve() {
		b.WriteString("  const DPoP = client.getDPoPHandle(server, keys) // of client.randomDPoPKeyPair(), kept in IndexedDB\n")
		dpop = ", { DPoP }"
	}
	fmt.Fprintf(b, "  location.href = await client.buildAuthorizationUrlWithPAR(server, {\n    redirect_uri: %q,\n    scope: %q,\n    code_challenge, code_challenge_method: \"S256\", state,\n  }%s)\n\n", c.RedirectURIs[0], strings.Join(c.Scopes, " "), dpop)
}

// forBackend writes the settings that any library for a backend asks for.
func forBackend(b *strings.Builder, c clients.Client, issuer, secret string) {
	b.WriteString("In the backend, by the names that its library has for them:\n\n")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-25s  %s\n", name, value)
		}
	}
	row("issuer", issuer)
	row("client id", string(c.ID))
	row("authentication", string(c.Method()))
	row("client secret", secret)
	if c.HasGrantType("authorization_code") {
		row("redirect uri", string(c.RedirectURIs[0]))
		if len(c.PostLogoutRedirectURIs) > 0 {
			row("post logout redirect uri", string(c.PostLogoutRedirectURIs[0]))
		}
	}
	row("grant types", grantTypes(c))
	row("scope", strings.Join(c.Scopes, " "))
	row("resource", c.Audiences[0])
	row("has to", requirements(c))
	b.WriteString("\n")
	switch c.Method() {
	case clients.SecretBasic:
		b.WriteString("The secret is shown this once and stored as a hash only. It belongs on the server,\nnever in a page.\n\n")
	case clients.PrivateKeyJWT:
		fmt.Fprintf(b, "It signs its assertions with the private key to one of the registered public\nones; their aud is the issuer, %s, as one string.\n\n", issuer)
	}
}

// api is what an API needs: issuer, audience, issuer, audience, issuer.
const api = `In the API (Go; see keys/verify for other languages):

  v, err := verify.New(ctx, verify.Config{
    Issuer:   "%s",
    Audience: "%s",
  })
  mux.Handle("GET /orders", v.Require("orders:read")(orders))

In any other API: check the JWT's signature against the key set, and that typ is
at+jwt, iss is %s, aud is %s and exp is to come:

  %s/jwks
`

// kind says what a client is, in a word or two.
func kind(c clients.Client) string {
	text := "public"
	if c.Confidential() {
		text = "confidential (" + string(c.Method()) + ")"
	}
	if c.Profile != "" {
		text += ", " + string(c.Profile)
	}
	return text
}

func grantTypes(c clients.Client) string {
	var has []string
	for _, g := range clients.GrantTypes() {
		if c.HasGrantType(g) {
			has = append(has, g)
		}
	}
	return strings.Join(has, " ")
}

// requirements are what the client has to do beyond what all have to, "" if
// nothing.
func requirements(c clients.Client) string {
	var list []string
	if c.MustPush() && c.HasGrantType("authorization_code") {
		list = append(list, "push authorization requests (PAR)")
	}
	if c.MustProve() {
		list = append(list, "prove its key (DPoP)")
	}
	if c.MustHaveNonce() {
		list = append(list, "put the server's nonce into a DPoP proof")
	}
	return strings.Join(list, ", ")
}

// advice is what the person who registers the client should know about the
// app's library.
func advice(c clients.Client) (list []string) {
	if !c.Confidential() && c.MustPush() {
		list = append(list, "oidc-client-ts can't push authorization requests (PAR), which this client has to: use a library that can, such as openid-client or oauth4webapi")
	}
	return list
}
