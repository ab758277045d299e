package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/solegate/solegate/keys"
)

func (a *API) listKeys(c *call) (any, error) {
	// Another server, or the command line, may have changed it.
	if err := a.Ring.Reload(c.r.Context()); err != nil {
		return nil, err
	}
	return list[keys.Info]{Items: a.Ring.List()}, nil
}

func (a *API) revokeKey(c *call) (any, error) {
	reason, err := c.reason(revokedByOperator)
	if err != nil {
		return nil, err
	}
	ctx, kid := context.WithoutCancel(c.r.Context()), c.id("key")
	if err := a.Ring.Reload(ctx); err != nil {
		return nil, err
	}
	err = a.Revoker.RevokeKey(ctx, a.Ring, kid, reason)
	list := a.Ring.List() // read once: others reload the ring
	i := slices.IndexFunc(list, func(k keys.Info) bool { return k.ID == kid })
	switch {
	case errors.Is(err, keys.ErrNoKey) && i < 0:
		return nil, &Problem{http.StatusNotFound, "There is none by that identifier.", err}
	case err != nil && !errors.Is(err, keys.ErrNoKey): // else it was revoked before
		return nil, err
	case i < 0: // and it was removed a moment ago
		return nil, &Problem{http.StatusNotFound, "There is none by that identifier.", errors.New("revoked, and removed since")}
	}
	return list[i], nil
}

// revokeAll ends everything. That may take longer than an answer otherwise may.
func (a *API) revokeAll(c *call) (any, error) {
	reason, err := c.reason(revokedByOperator)
	if err != nil {
		return nil, err
	}
	if err := http.NewResponseController(c.w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	done, err := a.Revoker.RevokeAll(context.WithoutCancel(c.r.Context()), reason)
	if err != nil {
		return nil, &Problem{http.StatusServiceUnavailable, "Not everything is ended yet: do it again.", fmt.Errorf("%w; %d clients and %d users are done", err, done.Clients, done.Users)}
	}
	return done, nil
}
