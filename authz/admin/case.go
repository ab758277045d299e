package admin

import (
	"context"
	"errors"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Case is a case as operators see it, with its account.
type Case struct {
	// User is the name of the account; empty if that is gone, and then the
	// state is removed.
	User        string         `json:"user,omitempty"`
	ID          storage.UserID `json:"id"`
	State       string         `json:"state"`
	Open        bool           `json:"open"`
	Reported    uint64         `json:"reported"`
	OpenedAt    time.Time      `json:"opened_at"`
	UpdatedAt   time.Time      `json:"updated_at"`
	DismissedAt time.Time      `json:"dismissed_at,omitzero"`
	Expires     time.Time      `json:"expires"`

	// In a listing there is no evidence and no tally, and the last decision
	// alone.
	Evidence  []storage.Evidence `json:"evidence,omitempty"`
	Tallies   []Tally            `json:"tallies,omitempty"`
	Decisions []storage.Decision `json:"decisions,omitempty"`
}

// Tally is how much counts for a rule now.
type Tally struct {
	Rule           string     `json:"rule"`
	ResourceServer clients.ID `json:"resource_server"`
	Count          int        `json:"count"`
	Of             int        `json:"of"`
	Within         string     `json:"within"`
}

// ShowCase returns what operators see at now of case c of u, which is zero if
// the account is gone. counts are what counts in it.
func ShowCase(c storage.Case, u storage.User, counts []abuse.Count, now time.Time) Case {
	shown := Case{User: u.Name, ID: c.User, State: "removed", Open: abuse.Open(c), Reported: c.Reported, OpenedAt: c.OpenedAt, UpdatedAt: c.UpdatedAt,
		DismissedAt: c.DismissedAt, Expires: c.Expires, Evidence: c.Evidence, Decisions: c.Decisions}
	if u.ID != "" {
		shown.State = ShowUser(u, now).State
	}
	for _, n := range counts {
		shown.Tallies = append(shown.Tallies, Tally{n.Rule, n.ResourceServer, n.Count, n.Of, n.Within.String()})
	}
	return shown
}

// Brief is the case as a listing has it.
func (c Case) Brief() Case {
	c.Evidence, c.Tallies = nil, nil
	c.Decisions = c.Decisions[max(0, len(c.Decisions)-1):]
	return c
}

func (a *API) listCases(c *call) (any, error) {
	p, err := c.page()
	if err != nil {
		return nil, err
	}
	all, err := c.flag("all")
	if err != nil {
		return nil, err
	}
	cases, err := a.Store.ListCases(c.r.Context(), p)
	if err != nil {
		return nil, err
	}
	shown := map[storage.UserID]Case{}
	for _, one := range cases {
		if !all && !abuse.Open(one) {
			continue
		}
		whole, err := a.showCaseOf(c.r.Context(), one)
		if err != nil {
			return nil, err
		}
		shown[one.User] = whole.Brief()
	}
	return listed(cases, p, func(one storage.Case) string { return string(one.User) }, func(one storage.Case) (Case, bool) {
		brief, ok := shown[one.User]
		return brief, ok
	}), nil
}

func (a *API) showCaseOf(ctx context.Context, c storage.Case) (Case, error) {
	u, err := a.Store.User(ctx, c.User)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return Case{}, err
	}
	return ShowCase(c, u, a.Judge.Counts(c), a.Now()), nil
}

func (a *API) showCase(c *call) (any, error) { return a.caseNow(c.r.Context(), c.user()) }

func (a *API) caseNow(ctx context.Context, id storage.UserID) (any, error) {
	found, err := a.Store.Case(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.showCaseOf(ctx, found)
}

func (a *API) dismissCase(c *call) (any, error) {
	reason, err := c.reason("dismissed by an operator")
	if err != nil {
		return nil, err
	}
	ctx := context.WithoutCancel(c.r.Context())
	if err := a.Judge.Dismiss(ctx, c.user(), reason); err != nil {
		return nil, err
	}
	return a.caseNow(ctx, c.user())
}
