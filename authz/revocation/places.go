package revocation

import (
	"context"
	"time"

	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// A token of a grant names its place in a Token Status List, so whatever ends
// grants names their places: an event of a grant its own, one of a user or a
// session those of their grants. A list is of one client and epoch of it, so an
// event of a client ends its lists and need not name any place, and what comes
// beside one (RevokeAll) does not, either.

const (
	// maxPlaces bounds the places of an event: what is more comes in others
	// that say the same.
	maxPlaces = 256
	// listedAtOnce is how many grants are read, and announced, in one go.
	listedAtOnce = 1000
)

// announceEnd announces e, the end of session s of u, or of all of u's if s is
// empty, with the places of its first grants. What it returns is called once the
// end is written, and announces the places of the others, and of grants that were
// made meanwhile: after the end no token is issued for any, so none is left out.
func (r *Revoker) announceEnd(ctx context.Context, e storage.Event, u storage.UserID, s storage.SessionID) (ended func() error, err error) {
	if r.NoStatusList {
		return func() error { return nil }, r.announce(ctx, e)
	}
	told := map[storage.GrantID]bool{}
	if err := r.announcePlaces(ctx, e, true, u, s, time.Time{}, told); err != nil {
		return nil, err
	}
	return func() error { return r.announcePlaces(ctx, e, false, u, s, time.Time{}, told) }, nil
}

// announceLate announces the places of a session that had ended before: who ended
// it may have died, or failed, before it had announced those of grants that were
// made meanwhile.
func (r *Revoker) announceLate(ctx context.Context, e storage.Event, s storage.SessionID) error {
	err := r.announcePlaces(ctx, e, false, s.User(), s, time.Time{}, map[storage.GrantID]bool{})
	if err != nil {
		r.reminded.forget(storage.GrantID(s))
	}
	return err
}

// announcePlaces announces e with the places of the grants that may have live
// tokens, were made at since or later, and are not among those told, which it
// adds to. Without any there is an event only if it is wanted at all costs.
func (r *Revoker) announcePlaces(ctx context.Context, e storage.Event, always bool, u storage.UserID, s storage.SessionID, since time.Time, told map[storage.GrantID]bool) error {
	// The grants of a session come behind its identifier in their order.
	for p := (storage.Page{After: string(s), Limit: listedAtOnce}); ; {
		list, err := r.Store.ListGrants(ctx, u, p)
		if err != nil {
			return err
		}
		more := len(list) == p.Limit
		var places []storage.Place
		for _, g := range list {
			p.After = string(g.ID)
			if s != "" && g.Session != s {
				if p.After > string(s)+"/" { // which follows the dot: none of it is left
					more = false
					break
				}
				continue
			}
			if g.Status.List != "" && !told[g.ID] && !g.CreatedAt.Before(since) && r.mayHaveTokens(g) {
				told[g.ID] = true
				places = append(places, g.Status)
			}
		}
		if always || len(places) > 0 {
			if err := r.announce(ctx, withPlaces(e, places)...); err != nil {
				return err
			}
		}
		// Before an end is written, no more: nobody keeps it off by having many.
		if !more || always {
			return nil
		}
	}
}

// mayHaveTokens reports whether an access token of the grant may still be good.
// One that was revoked may: its end may have been announced by a process that
// died before it named the place.
func (r *Revoker) mayHaveTokens(g storage.Grant) bool {
	long := r.Now().Add(-r.TokenLife - keys.Skew)
	return g.Expires.After(long) && (g.RevokedAt.IsZero() || g.RevokedAt.After(long)) && (g.IdleExpires.IsZero() || g.IdleExpires.After(long))
}

// withPlaces returns e with the places, as often as they need it.
func withPlaces(e storage.Event, places []storage.Place) []storage.Event {
	e.Status = places[:min(len(places), maxPlaces)]
	list := []storage.Event{e}
	for places = places[len(e.Status):]; len(places) > 0; places = places[len(e.Status):] {
		e.Status = places[:min(len(places), maxPlaces)]
		list = append(list, e)
	}
	return list
}

// placeOf is the place of one grant, if it has one.
func placeOf(g storage.Grant) []storage.Place {
	if g.Status.List == "" {
		return nil
	}
	return []storage.Place{g.Status}
}
