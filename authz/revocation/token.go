package revocation

import (
	"context"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Token is an access token that a client got for itself. No record in the store
// stands behind it, so an event is all that ends it before its time.
type Token struct {
	ID       string // jti
	Client   clients.ID
	Audience string
	Status   storage.Place // in a status list, or none
}

// RevokeToken ends one token at the APIs that follow the feed or read status
// lists, and at introspection. A token of a grant dies with its grant.
func (r *Revoker) RevokeToken(ctx context.Context, t Token, reason string) error {
	e := storage.Event{Kind: storage.EventToken, Subject: t.ID, Reason: "revoked", Audiences: []string{t.Audience}}
	if t.Status.List != "" {
		e.Status = []storage.Place{t.Status}
	}
	return r.record(ctx, r.announce(ctx, e), "revoke token", audit.Event{What: "token revoked", Client: t.Client, Reason: reason})
}
