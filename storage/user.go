package storage

import (
	"context"
	"time"

	"github.com/solegate/solegate/clients"
)

// User is an account.
type User struct {
	ID UserID `json:"id"`
	// Name is the login name, in the one form that is compared: unique.
	Name string `json:"name"`
	// Password is the encoded Argon2id hash with its parameters, or empty for
	// an account that can't log in by password.
	Password string `json:"password,omitempty"`

	DisplayName   string `json:"display_name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`

	// Admin makes an operator of the person: who may use the operator's API
	// with an access token.
	Admin bool `json:"admin,omitempty"`

	// Block refuses logins and refreshes while it lasts.
	Block *Block `json:"block,omitempty"`
	// Throttle slows them down while it lasts.
	Throttle *Throttle `json:"throttle,omitempty"`
	// UnblockedAt is when an operator last lifted both: what a rule had decided
	// until then, and had not done, is not done.
	UnblockedAt time.Time `json:"unblocked_at,omitzero"`

	// Epoch counts what ended all of this user's sessions and grants at once:
	// password changes, blocks, revocations. A session remembers the one that
	// it is of. It is no time: clocks of two servers never agree on an order.
	Epoch uint64 `json:"epoch,omitempty"`

	// Consents are the scopes that the person agreed to, by client.
	Consents map[clients.ID][]string `json:"consents,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// Version tells this state of the record from every other, for
	// compare-and-swap: also from those of a record with the same ID that was
	// removed. The store sets it.
	Version uint64 `json:"-"`
}

// Block is why and how long a user may not log in: by hand (a block) or by
// policy (a suspension).
type Block struct {
	// Rule is the name of the policy's rule that set it; empty if it was done
	// by hand.
	Rule   string    `json:"rule,omitempty"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Until is when it ends; zero means until somebody lifts it.
	Until time.Time `json:"until,omitzero"`
}

// Throttle is why, how long and how much a user is slowed down: by policy.
type Throttle struct {
	Rule   string    `json:"rule"` // the name of the policy's rule that set it
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Until is when it ends; zero means until somebody lifts it.
	Until time.Time `json:"until,omitzero"`
	// Every is the time in each of which the user gets one login and one
	// refresh: at most [MaxEvery].
	Every time.Duration `json:"every"`
}

// MaxEvery bounds [Throttle.Every]: what is slower is a block.
const MaxEvery = 24 * time.Hour

// Next is when the part of time that now falls in ends, and the next login and
// refresh may be: the parts are aligned to the Unix epoch, like those of
// [Counters].
func (t *Throttle) Next(now time.Time) time.Time {
	if t.Every <= 0 {
		return now
	}
	next := now.Add(t.Every - time.Duration(now.UnixNano()%int64(t.Every)))
	if !t.Until.IsZero() && t.Until.Before(next) {
		return t.Until
	}
	return next
}

// Users keeps the accounts, by ID and by unique Name.
type Users interface {
	User(ctx context.Context, id UserID) (User, error)
	UserByName(ctx context.Context, name string) (User, error)
	// CreateUser returns ErrExists when the ID or the Name is taken.
	CreateUser(ctx context.Context, u User) error
	// UpdateUser replaces the user whose Version is u.Version; otherwise
	// ErrConflict, ErrNotFound, or ErrExists when the new Name is taken.
	UpdateUser(ctx context.Context, u User) error
	// RemoveUser also removes the user's sessions and case. Grants stay until
	// they expire, and are dead because their user is gone.
	RemoveUser(ctx context.Context, id UserID) error
	// ListUsers is ordered by Name; Page.After is a Name.
	ListUsers(ctx context.Context, p Page) ([]User, error)
}
