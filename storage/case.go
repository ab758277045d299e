package storage

import (
	"context"
	"net/netip"
	"time"

	"github.com/solegate/solegate/clients"
)

// Case is what is known of an account that resource servers report, and what
// was decided about it. There is one for a user, and it does not grow with what
// is reported: the constants below bound its lists, and the oldest of each go.
type Case struct {
	User UserID `json:"user"`

	OpenedAt  time.Time `json:"opened_at"`
	UpdatedAt time.Time `json:"updated_at"` // by a report, a decision or an operator
	// DismissedAt is when an operator last found nothing in it. What was
	// reported before no longer counts; a later report opens it again.
	DismissedAt time.Time `json:"dismissed_at,omitzero"`
	// Expires is when nobody needs it any more, unless it changes again.
	Expires time.Time `json:"expires"`

	// Reported is how often something was reported, ever.
	Reported uint64 `json:"reported"`
	// Evidence is what was reported last, the newest at the end.
	Evidence []Evidence `json:"evidence,omitempty"`
	// Tallies count what was reported under each rule by each resource server.
	Tallies []CaseTally `json:"tallies,omitempty"`
	// Decisions are the last ones, the newest at the end.
	Decisions []Decision `json:"decisions,omitempty"`
	// Batches are the hashes of the batches that are in it: one that comes again
	// is not counted twice.
	Batches []Hash `json:"batches,omitempty"`

	// Version is as in [User].
	Version uint64 `json:"-"`
}

// Bounds of the lists of a [Case].
const (
	MaxEvidence  = 32
	MaxTallies   = 64
	MaxDecisions = 16
	MaxBatches   = 32
)

// Evidence is one report of a resource server, as it was made.
type Evidence struct {
	ResourceServer clients.ID   `json:"resource_server"`
	Kind           string       `json:"kind"`
	Reason         string       `json:"reason"`
	Count          int          `json:"count"`
	First          time.Time    `json:"first"`
	Last           time.Time    `json:"last"`
	Client         clients.ID   `json:"client"`
	Session        SessionID    `json:"session,omitempty"`
	JKT            string       `json:"jkt,omitempty"`
	Addresses      []netip.Addr `json:"addresses,omitempty"`
	ReceivedAt     time.Time    `json:"received_at"`
}

// CaseTally counts reports in two windows that follow one another, as [Tally]
// does. Window is the number of the current one: its begin, in its own length,
// since the Unix epoch.
type CaseTally struct {
	Rule           string     `json:"rule"`
	ResourceServer clients.ID `json:"resource_server"`
	Window         int64      `json:"window"`
	Current        int        `json:"current"`
	Previous       int        `json:"previous"`
}

// Decision is what a rule, or a person, decided about an account.
type Decision struct {
	At time.Time `json:"at"`
	// Rule is the name of the rule; empty if it was a person, and Operator says
	// who.
	Rule     string `json:"rule,omitempty"`
	Operator string `json:"operator,omitempty"`
	// Action is what it came to: "tell", "throttle", "login", "suspend",
	// "dismiss".
	Action string `json:"action"`
	// Until is when it ends by itself; zero means until it is lifted.
	Until time.Time `json:"until,omitzero"`
	// Withheld says why nothing was done: "dry run", "cap", "exempt"; empty
	// if it was done.
	Withheld string `json:"withheld,omitempty"`
	// Because says what led to it, in words for the operator.
	Because string `json:"because,omitempty"`
}

// Cases keeps one [Case] for each user that was reported, by user.
type Cases interface {
	// Case returns ErrNotFound when there is none.
	Case(ctx context.Context, u UserID) (Case, error)
	// PutCase stores c in the place of the one whose Version is c.Version, zero
	// if there is to be none yet: otherwise ErrConflict. A store refuses one
	// that is beyond its bounds.
	PutCase(ctx context.Context, c Case) error
	// RemoveCase returns ErrNotFound when there is none.
	RemoveCase(ctx context.Context, u UserID) error
	// ListCases is ordered by user; Page.After is a UserID.
	ListCases(ctx context.Context, p Page) ([]Case, error)
}
