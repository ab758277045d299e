package interop

import (
	"context"
	"errors"
	"net/url"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// signIn signs somebody in at a confidential client and returns who it is.
// browse sends them to an address and returns the query that the client's
// redirect URI is then called with.
func signIn(ctx context.Context, issuer string, config oauth2.Config, browse func(to string) (url.Values, error)) (*oidc.UserInfo, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	config.Endpoint = provider.Endpoint()
	config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader // client_secret_basic
	config.Scopes = []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess}

	// In a web app these three are in the visitor's own session.
	state, nonce, verifier := oauth2.GenerateVerifier(), oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	answer, err := browse(config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
	if err != nil {
		return nil, err
	}
	switch {
	case answer.Get("state") != state:
		return nil, errors.New("the answer is for somebody else's request")
	case answer.Get("iss") != issuer: // RFC 9207
		return nil, errors.New("the answer is another server's")
	case answer.Get("code") == "":
		return nil, errors.New(answer.Get("error"))
	}
	token, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, err
	}

	raw, _ := token.Extra("id_token").(string)
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: config.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if id.Nonce != nonce {
		return nil, errors.New("the ID token is of another request")
	}
	if err := id.VerifyAccessToken(token.AccessToken); err != nil {
		return nil, err
	}

	// What has run out is refreshed by the source. Here it is made to.
	token.Expiry = token.Expiry.AddDate(0, 0, -1)
	return provider.UserInfo(ctx, config.TokenSource(ctx, token))
}
