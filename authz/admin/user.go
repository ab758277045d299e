package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// User is an account as operators see it: nothing in it proves who somebody is.
type User struct {
	ID          storage.UserID `json:"id"`
	Name        string         `json:"name"`
	DisplayName string         `json:"display_name,omitempty"`
	Email       string         `json:"email,omitempty"`
	// State is active, blocked (by hand), suspended or throttled (by policy).
	State string         `json:"state"`
	Block *storage.Block `json:"block,omitempty"`
	// Throttle is there while policy slows the account down.
	Throttle *storage.Throttle `json:"throttle,omitempty"`
	// Admin is set for an operator.
	Admin       bool      `json:"admin,omitempty"`
	HasPassword bool      `json:"has_password"`
	Sessions    []Session `json:"sessions,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Session is a login session that can still do something: log in to another
// app, or refresh.
type Session struct {
	ID          storage.SessionID `json:"id"`
	AuthTime    time.Time         `json:"auth_time"`
	LastSeen    time.Time         `json:"last_seen"`
	Address     string            `json:"address"`
	Browser     string            `json:"user_agent"`
	IdleExpires time.Time         `json:"idle_expires"`
	Expires     time.Time         `json:"expires"`
	Clients     []clients.ID      `json:"clients,omitempty"` // that have a grant of it
}

// ShowUser returns what operators see of u at now, without its sessions.
func ShowUser(u storage.User, now time.Time) User {
	state := "active"
	switch {
	case revocation.Suspended(u, now):
		state = "suspended"
	case revocation.Blocked(u, now):
		state = "blocked"
	}
	if !revocation.Throttled(u, now) {
		u.Throttle = nil
	} else if state == "active" {
		state = "throttled"
	}
	return User{ID: u.ID, Name: u.Name, DisplayName: u.DisplayName, Email: u.Email, State: state, Block: u.Block, Throttle: u.Throttle, Admin: u.Admin,
		HasPassword: u.Password != "", CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt}
}

// ShowSession returns what operators see of the session s of u, of which those
// clients have a grant, and whether it can do something at now.
func ShowSession(s storage.Session, u storage.User, having []clients.ID, now time.Time) (Session, bool) {
	good := revocation.SessionLive(s, u, now) == nil && (now.Before(s.IdleExpires) || len(having) > 0)
	return Session{s.ID, s.AuthTime, s.LastSeen, s.Address, s.UserAgent, s.IdleExpires, s.Expires, having}, good
}

// ClientsOf returns which clients have a grant at now, by session.
func ClientsOf(grants []storage.Grant, now time.Time) map[storage.SessionID][]clients.ID {
	having := map[storage.SessionID][]clients.ID{}
	for _, g := range grants {
		if g.RevokedAt.IsZero() && now.Before(g.Expires) && !slices.Contains(having[g.Session], g.Client) {
			having[g.Session] = append(having[g.Session], g.Client)
		}
	}
	return having
}

func (a *API) listUsers(c *call) (any, error) {
	p, err := c.page()
	if err != nil {
		return nil, err
	}
	ctx, now := c.r.Context(), a.Now()
	if name := c.query.Get("name"); c.query.Has("name") {
		found := list[User]{Items: []User{}}
		if name, err = a.UserName(name); err != nil {
			return found, nil // nobody has a name that can't be
		}
		u, err := a.Store.UserByName(ctx, name)
		if errors.Is(err, storage.ErrNotFound) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		found.Items = append(found.Items, ShowUser(u, now))
		return found, nil
	}
	all, err := a.Store.ListUsers(ctx, p)
	if err != nil {
		return nil, err
	}
	return listed(all, p, func(u storage.User) string { return u.Name }, func(u storage.User) (User, bool) { return ShowUser(u, now), true }), nil
}

func (a *API) showUser(c *call) (any, error) { return a.userNow(c.r.Context(), c.user()) }

// userNow is what an act on a user answers with, too: how it is after it.
func (a *API) userNow(ctx context.Context, id storage.UserID) (any, error) {
	u, err := a.Store.User(ctx, id)
	if err != nil {
		return nil, err
	}
	return ShowUser(u, a.Now()), nil
}

// actOnUser does it, and answers with the user. What was begun is finished
// although who asked for it hangs up.
func (a *API) actOnUser(c *call, act func(context.Context, storage.UserID) error) (any, error) {
	ctx := context.WithoutCancel(c.r.Context())
	if err := act(ctx, c.user()); err != nil {
		return nil, err
	}
	return a.userNow(ctx, c.user())
}

func (a *API) blockUser(c *call) (any, error) {
	reason, err := c.reason("blocked by an operator")
	if err != nil {
		return nil, err
	}
	until, err := c.until(a.Now())
	if err != nil {
		return nil, err
	}
	return a.actOnUser(c, func(ctx context.Context, id storage.UserID) error { return a.Revoker.BlockUser(ctx, id, reason, until) })
}

func (a *API) unblockUser(c *call) (any, error) { return a.actOnUser(c, a.Revoker.UnblockUser) }

// revokedByOperator is the reason where none is given, as by the command line.
const revokedByOperator = "revoked by an operator"

func (a *API) revokeUser(c *call) (any, error) {
	reason, err := c.reason(revokedByOperator)
	if err != nil {
		return nil, err
	}
	return a.actOnUser(c, func(ctx context.Context, id storage.UserID) error { return a.Revoker.RevokeUser(ctx, id, reason) })
}

func (a *API) listSessions(c *call) (any, error) {
	p, err := c.page()
	if err != nil {
		return nil, err
	}
	ctx, now := c.r.Context(), a.Now()
	u, err := a.Store.User(ctx, c.user())
	if err != nil {
		return nil, err
	}
	all, err := a.Store.ListSessions(ctx, u.ID, p)
	if err != nil {
		return nil, err
	}
	grants, err := a.grantsOf(ctx, u.ID, all)
	if err != nil {
		return nil, err
	}
	having := ClientsOf(grants, now)
	return listed(all, p, func(s storage.Session) string { return string(s.ID) }, func(s storage.Session) (Session, bool) { return ShowSession(s, u, having[s.ID], now) }), nil
}

// maxGrants bounds how many grants are looked at for a part of a listing.
const maxGrants = 10_000

// grantsOf returns the grants of some sessions that follow one another: a
// grant's identifier begins with its session's, so they do, too.
func (a *API) grantsOf(ctx context.Context, u storage.UserID, sessions []storage.Session) (grants []storage.Grant, err error) {
	if len(sessions) == 0 {
		return nil, nil
	}
	last := sessions[len(sessions)-1].ID
	for p := (storage.Page{After: string(sessions[0].ID), Limit: maxLimit}); len(grants) < maxGrants; {
		part, err := a.Store.ListGrants(ctx, u, p)
		if err != nil {
			return nil, err
		}
		grants = append(grants, part...)
		if len(part) < p.Limit || part[len(part)-1].Session > last {
			break
		}
		p.After = string(part[len(part)-1].ID)
	}
	return grants, nil
}

func (a *API) endSession(c *call) (any, error) {
	reason, err := c.reason("ended by an operator")
	if err != nil {
		return nil, err
	}
	id := storage.SessionID(c.id("session"))
	if id.User() != c.user() {
		return nil, refusef(http.StatusNotFound, "There is none by that identifier.", "session of another user")
	}
	ctx := context.WithoutCancel(c.r.Context())
	if err := a.Revoker.EndSession(ctx, id, reason); err != nil {
		return nil, err
	}
	return Done{Session: id, Done: "ended"}, nil
}

// Done says what was done to something that is not there any more to be shown.
type Done struct {
	Session storage.SessionID `json:"session"`
	Done    string            `json:"done"`
}
