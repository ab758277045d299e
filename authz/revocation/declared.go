package revocation

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Several servers read the same configuration file and start at once, so each
// method here decides anew when another one was quicker. What all of them want
// is written, and recorded, by one of them.

// DeclareClient makes the store's client what the configuration file says: the
// file wins. A client that the file disables loses its grants, as by
// [Revoker.DisableClient]. It returns the client as it was, zero if there was
// none.
func (r *Revoker) DeclareClient(ctx context.Context, want clients.Client) (before clients.Client, err error) {
	for try := 1; ; try++ {
		before, err = r.declare(ctx, want)
		if try == tries || !changedMeanwhile(err) {
			break
		}
	}
	if err != nil {
		return before, fmt.Errorf("declare client: %w", err)
	}
	const reason = "so it says in the configuration file"
	switch {
	case before.ID == "":
	case want.Disabled && !before.Disabled:
		err = r.record(ctx, nil, "declare client", audit.Event{What: "client disabled", Client: want.ID, Reason: reason})
	case before.Disabled && !want.Disabled:
		err = r.record(ctx, nil, "declare client", audit.Event{What: "client enabled", Client: want.ID, Reason: reason})
	}
	return before, err
}

func (r *Revoker) declare(ctx context.Context, want clients.Client) (before clients.Client, err error) {
	now := r.Now()
	want.Declared = true
	before, err = r.Store.Client(ctx, want.ID)
	if errors.Is(err, storage.ErrNotFound) {
		want.CreatedAt, want.UpdatedAt, want.Epoch = now, now, uint64(now.UnixMicro())
		return clients.Client{}, r.Store.CreateClient(ctx, want)
	} else if err != nil {
		return before, err
	}
	want.CreatedAt, want.UpdatedAt, want.Epoch, want.Version = before.CreatedAt, before.UpdatedAt, before.Epoch, before.Version
	ends := before.EndsGrants(want)
	if ends {
		want.Epoch++
	}
	// Who comes second has nothing to write. So nobody is beaten twice to the
	// same change, and tries are enough for any number of servers.
	if reflect.DeepEqual(want, before) {
		return before, nil
	}
	if ends {
		if err := r.announceClient(ctx, want, "changed"); err != nil {
			return before, err
		}
	}
	want.UpdatedAt = now
	return before, r.Store.UpdateClient(ctx, want)
}

// UndeclareClient disables a client that is no longer in the configuration
// file, ends its grants, and leaves it to be enabled or removed by hand. It
// reports whether it was this call that did it: nothing happens to a client
// that is gone or not declared.
func (r *Revoker) UndeclareClient(ctx context.Context, id clients.ID) (done bool, err error) {
	var before clients.Client
	for try := 1; ; try++ {
		before, err = r.Store.Client(ctx, id)
		if errors.Is(err, storage.ErrNotFound) || err == nil && !before.Declared {
			return false, nil
		}
		if err == nil {
			c := before
			c.Declared, c.Disabled, c.UpdatedAt = false, true, r.Now()
			if !before.Disabled { // else its grants have ended before
				c.Epoch++
				err = r.announceClient(ctx, c, "disabled")
			}
			if err == nil {
				err = r.Store.UpdateClient(ctx, c)
			}
		}
		if try == tries || !changedMeanwhile(err) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("undeclare client: %w", err)
	}
	if !before.Disabled {
		err = r.record(ctx, nil, "undeclare client", audit.Event{What: "client disabled", Client: id, Reason: "it is no longer in the configuration file"})
	}
	return true, err
}

// changedMeanwhile reports whether a write found another record than was read.
func changedMeanwhile(err error) bool {
	return errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrNotFound)
}
