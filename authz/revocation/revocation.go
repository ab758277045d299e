// Package revocation is the one way to end things: users, sessions, clients,
// grants, tokens and keys. There is no second way, but for a code or a refresh token that
// is used twice: the store ends its grant in the step that sees it. What it ends
// stays ended: each method returns only after the store has it, and a line in
// the audit log. If that line alone could not be written the error is an
// [ErrNotRecorded].
//
// Each end is announced to the APIs by an event of the store, which is appended
// first; see [storage.Events] for why that order is the safe one. With an error
// it may be that the event is there and the end is not: tokens are refused then
// for the minutes that they live, and doing it again ends it.
//
// The opposite question, whether a grant is good now, is [Live].
package revocation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/keys/verify/feed"
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

// ErrNotRecorded says that what was asked for is done, and that the audit log may
// not have it. It comes with the store's error. To do it again does no harm.
var ErrNotRecorded = errors.New("it is done, but the line for the audit log could not be written")

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

// Config is what a [Revoker] is made of. Store and Audit are required.
type Config struct {
	Store Store
	Audit *audit.Log

	// TokenLife is the longest life of an access token: an hour, which is the
	// most that there can be, if zero. Events are kept for as long, and
	// [keys.Skew].
	TokenLife time.Duration

	// Notify is told of the ends of sessions; nil tells nobody.
	Notify Notifier

	// NoStatusList says that no grant of the store has a place in a Token
	// Status List, so none is looked for when a session or a user ends: that is
	// a read or two.
	NoStatusList bool

	// Now and Rand are the clock and the source of randomness; nil means the
	// real ones.
	Now  func() time.Time
	Rand io.Reader
}

// Revoker ends things. It is safe for concurrent use.
type Revoker struct {
	Config
	reminded reminded // grants, and sessions, whose end was announced again
	recorded reminded // grants whose end was written down again
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
	storage.Events
}

// New returns a Revoker.
func New(c Config) *Revoker {
	if c.TokenLife == 0 {
		c.TokenLife = time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return &Revoker{Config: c}
}

// BlockUser refuses the user's logins and refreshes until the given time (the
// zero time: until it is lifted) and ends all of the user's sessions and
// grants. Access tokens already issued are refused by the APIs that follow the
// feed, and elsewhere live out their few minutes.
func (r *Revoker) BlockUser(ctx context.Context, id storage.UserID, reason string, until time.Time) error {
	now := r.Now()
	err := r.endUser(ctx, id, feed.ReasonBlocked, func(u *storage.User) {
		u.Block = &storage.Block{Reason: reason, At: now, Until: until}
	})
	return r.record(ctx, err, "block user", audit.Event{What: "user blocked", User: id, Reason: reason})
}

// UnblockUser lets the user log in again, and as often as anybody: it lifts what
// policy did, too, or is about to do. What was ended stays ended.
func (r *Revoker) UnblockUser(ctx context.Context, id storage.UserID) error {
	err := r.user(ctx, id, "", func(u *storage.User) { u.Block, u.Throttle, u.UnblockedAt = nil, nil, r.Now() })
	return r.record(ctx, err, "unblock user", audit.Event{What: "user unblocked", User: id})
}

// RevokeUser ends all of the user's sessions and grants. The user may log in
// again.
func (r *Revoker) RevokeUser(ctx context.Context, id storage.UserID, reason string) error {
	err := r.endUser(ctx, id, "revoked", func(*storage.User) {})
	return r.record(ctx, err, "revoke user", audit.Event{What: "user revoked", User: id, Reason: reason})
}

// SetPassword stores the encoded Argon2id hash and ends all of the user's
// sessions and grants: whoever knew the old password is out.
func (r *Revoker) SetPassword(ctx context.Context, id storage.UserID, encoded string) error {
	err := r.endUser(ctx, id, "password changed", func(u *storage.User) { u.Password = encoded })
	return r.record(ctx, err, "set password", audit.Event{What: "password changed", User: id})
}

// RemoveUser removes the account; its sessions and grants are dead with it.
func (r *Revoker) RemoveUser(ctx context.Context, id storage.UserID) error {
	err := r.ends(ctx, id, "", func() error {
		if _, err := r.Store.User(ctx, id); err != nil {
			return err
		}
		// It never comes back, whatever happens between here and there.
		ended, err := r.announceEnd(ctx, storage.Event{Kind: storage.EventUser, Subject: string(id), Epoch: lastEpoch, Reason: feed.ReasonRemoved}, id, "")
		if err != nil {
			return err
		}
		if err := r.Store.RemoveUser(ctx, id); err != nil {
			return err
		}
		return ended()
	})
	return r.record(ctx, err, "remove user", audit.Event{What: "user removed", User: id})
}

// lastEpoch is above every epoch that a token can have, and exact in every
// reader of JSON.
const lastEpoch = 1<<53 - 1

// DisableClient refuses every request of the client and ends its grants.
func (r *Revoker) DisableClient(ctx context.Context, id clients.ID) error {
	err := r.client(ctx, id, "disabled", func(c *clients.Client) { c.Disabled = true })
	return r.record(ctx, err, "disable client", audit.Event{What: "client disabled", Client: id})
}

// EnableClient lets the client start again. What was ended stays ended.
func (r *Revoker) EnableClient(ctx context.Context, id clients.ID) error {
	err := r.client(ctx, id, "", func(c *clients.Client) { c.Disabled = false })
	return r.record(ctx, err, "enable client", audit.Event{What: "client enabled", Client: id})
}

// ChangeClient replaces the client before by next, as UpdateClient does. If that
// ends its grants (see [clients.Client.EndsGrants]) they are announced, and next
// begins a new epoch. It returns next as it was written.
func (r *Revoker) ChangeClient(ctx context.Context, before, next clients.Client) (clients.Client, error) {
	ends := before.EndsGrants(next)
	if ends {
		next.Epoch++
		if err := r.announceClient(ctx, next, "changed"); err != nil {
			return next, fmt.Errorf("change client: %w", err)
		}
	}
	next.UpdatedAt = r.Now()
	err := r.Store.UpdateClient(ctx, next)
	if err == nil && ends {
		err = r.record(ctx, nil, "change client", audit.Event{What: "client revoked", Client: next.ID, Reason: "it was changed in a way that ends its grants"})
	}
	return next, err
}

// RemoveClient removes the client; its grants are dead with it.
func (r *Revoker) RemoveClient(ctx context.Context, id clients.ID) error {
	// Disabled first: nothing is issued to it between the event and the end,
	// and one that is registered later by its name is another one.
	err := r.client(ctx, id, "removed", func(c *clients.Client) { c.Disabled = true })
	if err == nil {
		err = r.Store.RemoveClient(ctx, id)
	}
	return r.record(ctx, err, "remove client", audit.Event{What: "client removed", Client: id})
}

// RevokeGrant ends one grant: its refresh tokens, and its access tokens at
// userinfo, introspection and the APIs that follow the feed.
func (r *Revoker) RevokeGrant(ctx context.Context, id storage.GrantID, reason string) error {
	st, err := r.Store.Standing(ctx, id, "")
	if err != nil {
		return r.record(ctx, err, "revoke grant", audit.Event{})
	}
	return r.EndGrant(ctx, st.Grant, reason)
}

// EndGrant is RevokeGrant for who has read the grant a moment ago.
func (r *Revoker) EndGrant(ctx context.Context, g storage.Grant, reason string) error {
	err := r.AnnounceGrant(ctx, g, reason)
	if err == nil {
		err = r.Store.RevokeGrant(ctx, g.ID, r.Now(), reason)
	}
	// Who presents the token of a dead grant again and again fills no log.
	if err == nil && !g.RevokedAt.IsZero() && !r.recorded.first(g.ID) {
		return nil
	}
	return r.record(ctx, err, "revoke grant", audit.Event{What: "grant revoked", Client: g.Client, User: g.User, Session: g.Session, Grant: g.ID, Reason: reason})
}

// EndSession ends a login session and with it all of its grants.
func (r *Revoker) EndSession(ctx context.Context, id storage.SessionID, reason string) error {
	err := r.ends(ctx, id.User(), id, func() error {
		s, _, err := r.Store.SessionUser(ctx, id)
		if err != nil {
			return err
		}
		ended := func() error { return nil }
		e := storage.Event{Kind: storage.EventSession, Subject: string(id), Reason: "ended"}
		switch {
		case s.EndedAt.IsZero(): // else it was announced: whoever signs out twice says nothing new
			if ended, err = r.announceEnd(ctx, e, id.User(), id); err != nil {
				return err
			}
		case !r.NoStatusList && r.Now().Sub(s.EndedAt) <= r.TokenLife+keys.Skew && r.reminded.first(storage.GrantID(id)):
			ended = func() error { return r.announceLate(ctx, e, id) }
		}
		if err := r.Store.EndSession(ctx, id, r.Now()); err != nil {
			return err
		}
		return ended()
	})
	return r.record(ctx, err, "end session", audit.Event{What: "session ended", Session: id, Reason: reason})
}

// ends tells the Notifier of the end of session s of u, or of all of them, and
// does it.
func (r *Revoker) ends(ctx context.Context, u storage.UserID, s storage.SessionID, do func() error) error {
	if r.Notify == nil {
		return do()
	}
	ended := r.Notify.Ending(ctx, u, s)
	if err := do(); err != nil {
		return err
	}
	ended()
	return nil
}

// record writes down what was done, if err is nil, and returns how it ended.
func (r *Revoker) record(ctx context.Context, err error, doing string, e audit.Event) error {
	if errors.Is(err, errKept) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := r.Audit.Write(ctx, e); err != nil {
		return fmt.Errorf("%s: %w: %w", doing, ErrNotRecorded, err)
	}
	return nil
}

// tries bounds how often a change is made again because somebody else changed
// the record in between.
const tries = 10

// endUser changes the user and ends all sessions and grants.
func (r *Revoker) endUser(ctx context.Context, id storage.UserID, word string, change func(*storage.User)) error {
	return r.ends(ctx, id, "", func() error { return r.user(ctx, id, word, change) })
}

// user changes the user. With a word for the feed it begins a new epoch, which
// is announced first.
func (r *Revoker) user(ctx context.Context, id storage.UserID, word string, change func(*storage.User)) error {
	return r.userIf(ctx, id, word, func(storage.User) bool { return true }, change)
}

// userIf is user where the user, as it is in the store when it is changed, is
// one that is to be changed. Otherwise nothing happens, and it returns errKept.
// What it may have written already must be one that is to be changed: if the
// answer is lost it does it once more.
func (r *Revoker) userIf(ctx context.Context, id storage.UserID, word string, which func(storage.User) bool, change func(*storage.User)) error {
	lost := false
	for try := 1; ; try++ {
		u, err := r.Store.User(ctx, id)
		if err != nil {
			return err
		}
		if !which(u) {
			return errKept
		}
		ended := func() error { return nil }
		if word != "" {
			u.Epoch++
			e := storage.Event{Kind: storage.EventUser, Subject: string(id), Epoch: u.Epoch, Reason: word}
			if ended, err = r.announceEnd(ctx, e, id, ""); err != nil {
				return err
			}
		}
		change(&u)
		u.UpdatedAt = r.Now()
		if err = r.Store.UpdateUser(ctx, u); err == nil {
			return ended()
		}
		again := errors.Is(err, storage.ErrConflict)
		if errors.Is(err, storage.ErrUnknown) && !lost {
			lost, again = true, true
		}
		if !again || try == tries {
			return err
		}
	}
}

// client is user for a client.
func (r *Revoker) client(ctx context.Context, id clients.ID, word string, change func(*clients.Client)) error {
	for try := 1; ; try++ {
		c, err := r.Store.Client(ctx, id)
		if err != nil {
			return err
		}
		if word != "" {
			c.Epoch++
			if err := r.announceClient(ctx, c, word); err != nil {
				return err
			}
		}
		change(&c)
		c.UpdatedAt = r.Now()
		if err = r.Store.UpdateClient(ctx, c); !errors.Is(err, storage.ErrConflict) || try == tries {
			return err
		}
	}
}
