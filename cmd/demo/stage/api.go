package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/example/notes"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// apiID names the API to the authorization server.
const apiID clients.ID = "notes-api"

// policy is what becomes of an account that asks the API for too much: with
// more than a hundred requests beyond a limit it is suspended for a minute.
func policy() abuse.Policy {
	return abuse.Policy{Rules: []abuse.Rule{{
		Name: "hammering", Kind: reports.Limit, Count: 100, Within: time.Minute, Action: abuse.Suspend, For: time.Minute,
	}}}
}

// notice is what a suspended person reads.
const notice = "This account is suspended for a minute: it asked the API for far too much."

// api makes the sample API: it verifies tokens by itself, follows the revocation
// feed, and tells the authorization server which accounts ask for too much.
func (s *Stage) api(ctx, run context.Context, c Config) (http.Handler, error) {
	credential, err := s.credential(ctx)
	if err != nil {
		return nil, err
	}
	nonces := make([]byte, 32)
	rand.Read(nonces)
	s.verifier, err = verify.New(run, verify.Config{
		Issuer: s.AuthURL, Audience: s.APIURL, Development: true, Origins: []string{s.SPAURL},
		PublicURL: s.APIURL, DPoPNonceKey: nonces,
		Credential: credential, Feed: &verify.Feed{}, Reports: &verify.Reports{},
		Scopes: []string{"notes:read", "notes:write"}, Log: c.Log,
	})
	if err != nil {
		return nil, err
	}
	return notes.Handler(s.verifier), nil
}

// credential registers the API as a resource server, with a new secret at each
// start: nobody else needs to know it.
func (s *Stage) credential(ctx context.Context) (*verify.Credential, error) {
	rs, err := s.Store.ResourceServer(ctx, apiID)
	found := err == nil
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	rs.ID, rs.Name, rs.Audience = apiID, "Notes", s.APIURL
	secret, err := rs.NewSecret(rand.Reader)
	if err != nil {
		return nil, err
	}
	if found {
		err = s.Store.UpdateResourceServer(ctx, rs)
	} else {
		err = s.Store.CreateResourceServer(ctx, rs)
	}
	return &verify.Credential{ID: string(apiID), Secret: secret}, err
}
