package revocation

import (
	"context"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/storage"
)

// SetOperator makes an operator of the user, or an ordinary account again. It
// counts from the next request on: what an operator's access token may is read
// from the store, never from the token.
func (r *Revoker) SetOperator(ctx context.Context, id storage.UserID, operator bool) error {
	err := r.user(ctx, id, "", func(u *storage.User) { u.Admin = operator })
	what := "operator appointed"
	if !operator {
		what = "operator dismissed"
	}
	return r.record(ctx, err, "set operator", audit.Event{What: what, User: id})
}
