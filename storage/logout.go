package storage

import (
	"context"
	"time"

	"github.com/solegate/solegate/clients"
)

// Logout is a logout token that is owed to a client because a session ended
// (OpenID Connect Back-Channel Logout 1.0). Client and Session identify it.
type Logout struct {
	Client  clients.ID `json:"client"`
	Session SessionID  `json:"session"` // says whose it is, too

	CreatedAt time.Time `json:"created_at"`
	// Attempts counts the claims.
	Attempts int `json:"attempts"`
	// DueAt is when it is to be sent, or sent again.
	DueAt time.Time `json:"due_at"`
	// Expires is when nobody tries any more.
	Expires time.Time `json:"expires"`
}

// Logouts is the queue of logout tokens to send. What was added is durable.
type Logouts interface {
	// AddLogouts adds all of the list. One that is there already stays as it
	// is, and is no error.
	AddLogouts(ctx context.Context, list []Logout) error
	// ClaimLogouts returns at most limit logouts that are due at now, earliest
	// first, and in the same step makes each due again at again, with one more
	// attempt, as they are returned: of any number of servers only one gets it
	// until then. Those that are past Expires are removed and not returned.
	ClaimLogouts(ctx context.Context, now, again time.Time, limit int) ([]Logout, error)
	// DeferLogout makes a logout due at due. One that is gone is no error.
	DeferLogout(ctx context.Context, c clients.ID, s SessionID, due time.Time) error
	// FinishLogout removes a logout. One that is gone is no error.
	FinishLogout(ctx context.Context, c clients.ID, s SessionID) error

	// Logout reads one. ErrNotFound when there is none.
	Logout(ctx context.Context, c clients.ID, s SessionID) (Logout, error)
	// EachLogout calls visit once with every logout that is there all the
	// while, in no order, and stops at the first error of visit, which it
	// returns. It is for copies and for the operator.
	EachLogout(ctx context.Context, visit func(Logout) error) error
}
