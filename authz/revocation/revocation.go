// Package revocation is the one way to end things: users, sessions, clients
// and grants. There is no second way, but for a code or a refresh token that is
// used twice: the store ends its grant in the step that sees it. What it ends
// stays ended: each method returns only after the store has it, and writes an
// audit event.
//
// The opposite question, whether a grant is good now, is [Live].
package revocation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Why a grant is dead; test with [errors.Is].
var (
	ErrUserGone       = errors.New("the user was removed")
	ErrUserBlocked    = errors.New("the user is blocked")
	ErrUserRevoked    = errors.New("the user's grants were revoked")
	ErrSessionEnded   = errors.New("the login session has ended")
	ErrClientDisabled = errors.New("the client is disabled")
	ErrClientRevoked  = errors.New("the client was disabled since")
	ErrGrantRevoked   = errors.New("the grant was revoked")
	ErrGrantExpired   = errors.New("the grant has expired")
)

// Live returns nil if the grant in st, of client c, is good at now, or the
// error that says what ended it. It does not look at codes or refresh tokens.
func Live(st storage.Standing, c clients.Client, now time.Time) error {
	g := st.Grant
	switch {
	case c.Disabled:
		return ErrClientDisabled
	case g.Epoch != c.Epoch:
		return ErrClientRevoked
	case !g.RevokedAt.IsZero():
		return ErrGrantRevoked
	case !now.Before(g.Expires):
		return ErrGrantExpired
	case st.User.ID == "":
		return ErrUserGone
	case Blocked(st.User, now):
		return ErrUserBlocked
	}
	return SessionLive(st.Session, st.User, now)
}

// SessionLive returns nil if the login session s of u is good at now. It does
// not look at IdleExpires: that ends the browser's cookie, not its grants.
func SessionLive(s storage.Session, u storage.User, now time.Time) error {
	switch {
	case s.ID == "" || !s.EndedAt.IsZero() || !now.Before(s.Expires):
		return ErrSessionEnded
	case u.ID == "" || u.ID != s.User:
		return ErrUserGone
	case Blocked(u, now):
		return ErrUserBlocked
	case s.Epoch != u.Epoch:
		return ErrUserRevoked
	}
	return nil
}

// Blocked reports whether u may not log in at now.
func Blocked(u storage.User, now time.Time) bool {
	return u.Block != nil && (u.Block.Until.IsZero() || now.Before(u.Block.Until))
}

// Revoker ends things.
type Revoker struct {
	store  Store
	audit  *audit.Log
	now    func() time.Time
	notify Notifier
}

// Notifier is told of every end of a login session, before and after.
type Notifier interface {
	// Ending is told that session s of u, or if s is empty every session of u,
	// is about to end. ended is called once that is written, and not at all if
	// it is not known to be.
	Ending(ctx context.Context, u storage.UserID, s storage.SessionID) (ended func())
}

// Store is what a Revoker needs of [storage.Store].
type Store interface {
	storage.Clients
	storage.Users
	storage.Sessions
	storage.Grants
}

// New returns a Revoker. now is the clock; nil for n tells nobody.
func New(s Store, a *audit.Log, now func() time.Time, n Notifier) *Revoker {
	return &Revoker{store: s, audit: a, now: now, notify: n}
}

// BlockUser refuses the user's logins and refreshes until the given time (the
// zero time: until it is lifted) and ends all of the user's sessions and
// grants. Access tokens already issued live out their few minutes.
func (r *Revoker) BlockUser(ctx context.Context, id storage.UserID, reason string, until time.Time) error {
	now := r.now()
	err := r.ends(ctx, id, "", func() error {
		return r.user(ctx, id, func(u *storage.User) {
			u.Block = &storage.Block{Reason: reason, At: now, Until: until}
			u.Epoch++
		})
	})
	return r.record(ctx, err, "block user", audit.Event{What: "user blocked", User: id, Reason: reason})
}

// UnblockUser lets the user log in again. What was ended stays ended.
func (r *Revoker) UnblockUser(ctx context.Context, id storage.UserID) error {
	err := r.user(ctx, id, func(u *storage.User) { u.Block = nil })
	return r.record(ctx, err, "unblock user", audit.Event{What: "user unblocked", User: id})
}

// RevokeUser ends all of the user's sessions and grants. The user may log in
// again.
func (r *Revoker) RevokeUser(ctx context.Context, id storage.UserID, reason string) error {
	err := r.ends(ctx, id, "", func() error {
		return r.user(ctx, id, func(u *storage.User) { u.Epoch++ })
	})
	return r.record(ctx, err, "revoke user", audit.Event{What: "user revoked", User: id, Reason: reason})
}

// SetPassword stores the encoded Argon2id hash and ends all of the user's
// sessions and grants: whoever knew the old password is out.
func (r *Revoker) SetPassword(ctx context.Context, id storage.UserID, encoded string) error {
	err := r.ends(ctx, id, "", func() error {
		return r.user(ctx, id, func(u *storage.User) {
			u.Password = encoded
			u.Epoch++
		})
	})
	return r.record(ctx, err, "set password", audit.Event{What: "password changed", User: id})
}

// RemoveUser removes the account; its sessions and grants are dead with it.
func (r *Revoker) RemoveUser(ctx context.Context, id storage.UserID) error {
	err := r.ends(ctx, id, "", func() error { return r.store.RemoveUser(ctx, id) })
	return r.record(ctx, err, "remove user", audit.Event{What: "user removed", User: id})
}

// DisableClient refuses every request of the client and ends its grants.
func (r *Revoker) DisableClient(ctx context.Context, id clients.ID) error {
	err := r.client(ctx, id, func(c *clients.Client) {
		c.Disabled = true
		c.Epoch++
	})
	return r.record(ctx, err, "disable client", audit.Event{What: "client disabled", Client: id})
}

// EnableClient lets the client start again. What was ended stays ended.
func (r *Revoker) EnableClient(ctx context.Context, id clients.ID) error {
	err := r.client(ctx, id, func(c *clients.Client) { c.Disabled = false })
	return r.record(ctx, err, "enable client", audit.Event{What: "client enabled", Client: id})
}

// RemoveClient removes the client; its grants are dead with it.
func (r *Revoker) RemoveClient(ctx context.Context, id clients.ID) error {
	err := r.store.RemoveClient(ctx, id)
	return r.record(ctx, err, "remove client", audit.Event{What: "client removed", Client: id})
}

// RevokeGrant ends one grant: its refresh tokens, and userinfo and
// introspection for its access tokens.
func (r *Revoker) RevokeGrant(ctx context.Context, id storage.GrantID, reason string) error {
	err := r.store.RevokeGrant(ctx, id, r.now(), reason)
	return r.record(ctx, err, "revoke grant", audit.Event{What: "grant revoked", User: id.User(), Session: id.Session(), Grant: id, Reason: reason})
}

// EndSession ends a login session and with it all of its grants.
func (r *Revoker) EndSession(ctx context.Context, id storage.SessionID, reason string) error {
	err := r.ends(ctx, id.User(), id, func() error { return r.store.EndSession(ctx, id, r.now()) })
	return r.record(ctx, err, "end session", audit.Event{What: "session ended", Session: id, Reason: reason})
}

// ends announces the end of session s of u, or of all of them, and does it.
func (r *Revoker) ends(ctx context.Context, u storage.UserID, s storage.SessionID, do func() error) error {
	if r.notify == nil {
		return do()
	}
	ended := r.notify.Ending(ctx, u, s)
	if err := do(); err != nil {
		return err
	}
	ended()
	return nil
}

func (r *Revoker) record(ctx context.Context, err error, doing string, e audit.Event) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	r.audit.Record(ctx, e)
	return nil
}

// tries bounds how often a change is made again because somebody else changed
// the record in between.
const tries = 10

func (r *Revoker) user(ctx context.Context, id storage.UserID, change func(*storage.User)) error {
	for try := 1; ; try++ {
		u, err := r.store.User(ctx, id)
		if err != nil {
			return err
		}
		change(&u)
		u.UpdatedAt = r.now()
		if err = r.store.UpdateUser(ctx, u); !errors.Is(err, storage.ErrConflict) || try == tries {
			return err
		}
	}
}

func (r *Revoker) client(ctx context.Context, id clients.ID, change func(*clients.Client)) error {
	for try := 1; ; try++ {
		c, err := r.store.Client(ctx, id)
		if err != nil {
			return err
		}
		change(&c)
		c.UpdatedAt = r.now()
		if err = r.store.UpdateClient(ctx, c); !errors.Is(err, storage.ErrConflict) || try == tries {
			return err
		}
	}
}
