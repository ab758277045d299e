package revocation

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// announce appends events. It fills in what they have in common.
func (r *Revoker) announce(ctx context.Context, list ...storage.Event) error {
	now := r.Now()
	for i := range list {
		var id [16]byte
		if _, err := io.ReadFull(r.Rand, id[:]); err != nil {
			return err
		}
		e := &list[i]
		e.ID = base64.RawURLEncoding.EncodeToString(id[:])
		// The clock of who issues may be ahead of this one.
		e.NotBefore, e.Until = now, now.Add(r.TokenLife+keys.Skew)
	}
	err := r.Store.AppendEvents(ctx, list, now)
	if errors.Is(err, storage.ErrUnknown) {
		err = r.Store.AppendEvents(ctx, list, now) // twice says nothing new
	}
	if err != nil {
		return fmt.Errorf("tell the APIs: %w", err)
	}
	return nil
}

// announceClient announces that the client's tokens of before c.Epoch are dead.
func (r *Revoker) announceClient(ctx context.Context, c clients.Client, word string) error {
	return r.announce(ctx, storage.Event{Kind: storage.EventClient, Subject: string(c.ID), Epoch: c.Epoch, Reason: word})
}

// AnnounceGrant announces the end of a grant that the store ends by itself:
// before it is asked to, if that can be foreseen. Otherwise use RevokeGrant.
// A grant that had ended before is announced once more by each process at most,
// so that whoever presents its tokens again and again fills nothing; it is
// announced at all because the process that saw its end may have died between
// that and the event.
func (r *Revoker) AnnounceGrant(ctx context.Context, g storage.Grant, reason string) error {
	if !g.RevokedAt.IsZero() && (r.Now().Sub(g.RevokedAt) > r.TokenLife+keys.Skew || !r.reminded.first(g.ID)) {
		return nil
	}
	if reason != storage.ReasonCodeReuse && reason != storage.ReasonRefreshReuse {
		reason = "revoked"
	}
	err := r.announce(ctx, storage.Event{Kind: storage.EventGrant, Subject: string(g.ID), Reason: reason, Audiences: g.Resource, Status: placeOf(g)})
	if err != nil {
		r.reminded.forget(g.ID)
	}
	return err
}

// RecordReuse writes down that the store ended a grant because its code or a
// refresh token was used twice. Each further use is a refusal: as often as
// somebody likes.
func (r *Revoker) RecordReuse(ctx context.Context, g storage.Grant, reason string) {
	what := "grant revoked"
	if !r.recorded.first(g.ID) {
		what = "reuse refused"
	}
	r.Audit.Record(ctx, audit.Event{What: what, Client: g.Client, User: g.User, Session: g.Session, Grant: g.ID, Reason: reason})
}

// maxReminded bounds the grants that are remembered.
const maxReminded = 4096

// reminded are grants that ended before, and of which something was said again.
type reminded struct {
	mu  sync.Mutex
	ids map[storage.GrantID]bool
}

func (r *reminded) first(id storage.GrantID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids[id] {
		return false
	}
	if r.ids == nil || len(r.ids) >= maxReminded {
		r.ids = map[storage.GrantID]bool{}
	}
	r.ids[id] = true
	return true
}

func (r *reminded) forget(id storage.GrantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ids, id)
}

// RevokeKey withdraws a signing key that leaked, see [keys.Ring.Revoke]: what
// it signed is refused here, and by the APIs that follow the feed, at once. ErrNoKey of package keys says that there is none to revoke.
func (r *Revoker) RevokeKey(ctx context.Context, ring *keys.Ring, kid, reason string) error {
	known := false
	for _, k := range ring.List() {
		known = known || k.ID == kid && k.RevokedAt.IsZero()
	}
	if !known {
		return keys.ErrNoKey
	}
	err := r.announce(ctx, storage.Event{Kind: storage.EventKey, Subject: kid, Reason: "revoked"})
	if err == nil {
		err = ring.Revoke(ctx, kid, reason)
	}
	return r.record(ctx, err, "revoke key", audit.Event{What: "key revoked", Key: kid, Reason: reason})
}

// Ended is how much RevokeAll has ended.
type Ended struct {
	Clients int `json:"clients"`
	Users   int `json:"users"`
}

// atOnce is how many records are read, and announced, in one go.
const atOnce = 500

// RevokeAll ends every session and every grant, and every token by the time at
// which it was issued. Everybody may sign in again. It takes a while where there
// are many users, but each API refuses all tokens from the first moment. After
// an error, do it again.
func (r *Revoker) RevokeAll(ctx context.Context, reason string) (done Ended, err error) {
	err = r.revokeAll(ctx, &done)
	return done, r.record(ctx, err, "revoke all", audit.Event{What: "everything revoked", Reason: reason})
}

func (r *Revoker) revokeAll(ctx context.Context, done *Ended) error {
	began := r.Now()
	if err := r.announce(ctx, storage.Event{Kind: storage.EventAll, Reason: "revoked"}); err != nil {
		return err
	}
	for p := (storage.Page{Limit: atOnce}); ; {
		list, err := r.Store.ListClients(ctx, p)
		if err != nil {
			return err
		}
		for _, c := range list {
			p.After = string(c.ID)
			if err := r.client(ctx, c.ID, "revoked", func(*clients.Client) {}); err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			done.Clients++
		}
		if len(list) < p.Limit {
			break
		}
	}
	for p := (storage.Page{Limit: atOnce}); ; {
		list, err := r.Store.ListUsers(ctx, p)
		if err != nil {
			return err
		}
		if err := r.revokePage(ctx, list, began); err != nil {
			return err
		}
		done.Users += len(list)
		if len(list) < p.Limit {
			return nil
		}
		p.After = list[len(list)-1].Name
	}
}

// revokePage ends the sessions and grants of the users. They are announced
// together: a trip for each would take hours where there are millions.
func (r *Revoker) revokePage(ctx context.Context, list []storage.User, began time.Time) error {
	events := make([]storage.Event, len(list))
	for i, u := range list {
		events[i] = storage.Event{Kind: storage.EventUser, Subject: string(u.ID), Epoch: u.Epoch + 1, Reason: "revoked"}
	}
	if len(events) == 0 {
		return nil
	}
	if err := r.announce(ctx, events...); err != nil {
		return err
	}
	// Several at a time: stores make writes that come together lasting together.
	var work sync.WaitGroup
	errs := make(chan error, len(list))
	turns := make(chan struct{}, together)
	for _, u := range list {
		work.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if err := r.revokeAnnounced(ctx, u, began); err != nil && !errors.Is(err, storage.ErrNotFound) {
				errs <- err
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// together is how many users RevokeAll ends at a time.
const together = 32

// revokeAnnounced ends what is of a user as it was when its end was announced.
func (r *Revoker) revokeAnnounced(ctx context.Context, u storage.User, began time.Time) error {
	return r.ends(ctx, u.ID, "", func() error {
		next := u
		next.Epoch++
		next.UpdatedAt = r.Now()
		err := r.Store.UpdateUser(ctx, next)
		if errors.Is(err, storage.ErrConflict) {
			return r.user(ctx, u.ID, "revoked", func(*storage.User) {})
		}
		if err != nil || r.NoStatusList {
			return err
		}
		// Whoever signed in since the clients' lists ended has a place in one
		// that has not.
		e := storage.Event{Kind: storage.EventUser, Subject: string(u.ID), Epoch: next.Epoch, Reason: "revoked"}
		return r.announcePlaces(ctx, e, false, u.ID, "", began.Add(-keys.Skew), map[storage.GrantID]bool{})
	})
}
