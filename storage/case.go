package storage

import (
	"context"
	"errors"
	"fmt"
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

// Bounds of a [Case]. Texts are counted in bytes.
const (
	MaxEvidence  = 32
	MaxTallies   = 64
	MaxDecisions = 16
	MaxBatches   = 32

	MaxAddresses = 8    // of an [Evidence]
	MaxCaseText  = 512  // any text of it but Because
	MaxBecause   = 2048 // Decision.Because
)

// Bounded returns nil if a store takes c, or what is beyond the bounds.
func (c *Case) Bounded() error {
	switch {
	case c.User == "":
		return errors.New("case of nobody: a user is expected")
	case c.Expires.IsZero():
		return fmt.Errorf("case of user %q: it never expires", c.User)
	}
	texts := []string{string(c.User)}
	for _, e := range c.Evidence {
		if len(e.Addresses) > MaxAddresses {
			return fmt.Errorf("case of user %q: evidence of %d addresses, at most %d are expected", c.User, len(e.Addresses), MaxAddresses)
		}
		texts = append(texts, string(e.ResourceServer), e.Kind, e.Reason, string(e.Client), string(e.Session), e.JKT)
		for _, a := range e.Addresses {
			texts = append(texts, a.Zone())
		}
	}
	for _, t := range c.Tallies {
		texts = append(texts, t.Rule, string(t.ResourceServer))
	}
	for _, d := range c.Decisions {
		if len(d.Because) > MaxBecause {
			return fmt.Errorf("case of user %q: a decision because of %d bytes, at most %d are expected", c.User, len(d.Because), MaxBecause)
		}
		texts = append(texts, d.Rule, d.Operator, d.Action, d.Withheld)
	}
	for _, t := range texts {
		if len(t) > MaxCaseText {
			return fmt.Errorf("case of user %q: a text of %d bytes, at most %d are expected", c.User, len(t), MaxCaseText)
		}
	}
	for _, list := range []struct {
		name      string
		n, atMost int
	}{
		{"pieces of evidence", len(c.Evidence), MaxEvidence},
		{"tallies", len(c.Tallies), MaxTallies},
		{"decisions", len(c.Decisions), MaxDecisions},
		{"batches", len(c.Batches), MaxBatches},
	} {
		if list.n > list.atMost {
			return fmt.Errorf("case of user %q: %d %s, at most %d are expected", c.User, list.n, list.name, list.atMost)
		}
	}
	return nil
}

// Evidence is what a resource server reported of one kind and reason, in one
// login by one client with one key, added up for an hour.
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
	// Withheld says why nothing was done; empty if it was done. Package abuse
	// has the words: "pending" for what is about to be done, "dry run", "cap".
	Withheld string `json:"withheld,omitempty"`
	// Because says what led to it, in words for the operator.
	Because string `json:"because,omitempty"`
}

// Cases keeps one [Case] for each user that was reported, by user, until it
// expires. It goes with its user, see [Users.RemoveUser]; one that is put after
// that stays until it expires.
type Cases interface {
	// Case returns ErrNotFound when there is none.
	Case(ctx context.Context, u UserID) (Case, error)
	// PutCase stores c in the place of the one whose Version is c.Version, zero
	// if there is to be none yet: otherwise ErrConflict, also when there is none
	// any more. A store refuses one that is not [Case.Bounded].
	PutCase(ctx context.Context, c Case) error
	// RemoveCase returns ErrNotFound when there is none.
	RemoveCase(ctx context.Context, u UserID) error
	// ListCases is ordered by user; Page.After is a UserID.
	ListCases(ctx context.Context, p Page) ([]Case, error)
}
