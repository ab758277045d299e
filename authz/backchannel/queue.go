package backchannel

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Queue writes down who is to be told of the end of a session. It is safe for
// concurrent use.
type Queue struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
	wake  chan struct{} // holds one: there may be something to send

	mu        sync.Mutex
	receivers map[clients.ID]bool // those with a BackchannelLogoutURI; under mu
	read      time.Time           // when they were; under mu
}

// receiversFor is how long the clients that want to be told are remembered:
// signing out costs nothing where there are none.
const receiversFor = 5 * time.Second

// afterwards bounds what is done after an end is written, whoever has lost
// patience by then.
const afterwards = 5 * time.Second

// NewQueue returns a Queue. log takes what could not be written down; now is
// the clock.
func NewQueue(s Store, log *slog.Logger, now func() time.Time) *Queue {
	return &Queue{store: s, log: log, now: now, wake: make(chan struct{}, 1)}
}

var _ revocation.Notifier = (*Queue)(nil)

// Ending is told that session s of u, or if s is empty every session of u, is
// about to end, and writes down whom that concerns. Whoever ends it calls
// ended once the end is written, and not at all if it was not.
//
// The order is what makes sure that nobody is forgotten: if the process dies
// before ended, the senders find a note of a session that has ended, or of one
// that still lives, and wait.
//
// What can't be written down is logged and keeps nothing from ending.
func (q *Queue) Ending(ctx context.Context, u storage.UserID, s storage.SessionID) (ended func()) {
	to, err := q.receiversNow(ctx)
	if err == nil && len(to) == 0 {
		return func() {}
	}
	e := &end{queue: q, user: u, session: s, to: to, concerns: map[storage.SessionID]bool{}, added: map[owed]bool{}}
	before := e.write(ctx, false)
	return func() {
		// Once more: for a code that was redeemed, or a login that was
		// completed, between the note and the end; and if the first could not
		// be written.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
		defer cancel()
		if err := e.write(ctx, true); err != nil {
			q.log.Error("clients that are to be told that a session ended could not be written down, and are not told",
				"user", u, "session", s, "error", err, "before", before)
		}
		q.notify()
	}
}

// notify wakes the Sender of this process.
func (q *Queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// receiversNow are the clients that want to be told, as they were some seconds
// ago at most. With an error nobody knows.
func (q *Queue) receiversNow(ctx context.Context) (map[clients.ID]bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if age := now.Sub(q.read); q.receivers != nil && age >= 0 && age < receiversFor {
		return q.receivers, nil
	}
	found := map[clients.ID]bool{}
	for page := (storage.Page{Limit: 1000}); ; {
		list, err := q.store.ListClients(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if c.BackchannelLogoutURI != "" {
				found[c.ID] = true
			}
		}
		if len(list) < page.Limit {
			break
		}
		page.After = string(list[len(list)-1].ID)
	}
	q.receivers, q.read = found, now
	return found, nil
}

type owed struct {
	client  clients.ID
	session storage.SessionID
}

// end is one end of one session or of all of a user's.
type end struct {
	queue   *Queue
	user    storage.UserID
	session storage.SessionID   // empty: all
	to      map[clients.ID]bool // nil: unknown, so all
	// concerns says of each session that was looked at whether it is this end
	// that ends it.
	concerns map[storage.SessionID]bool
	added    map[owed]bool // and known to be stored
}

// write adds what is owed for every grant that is concerned and was not added
// before: those whose code was redeemed, live or not, because a client may have
// a session of its own that knows nothing of its tokens. after says that the
// end is written.
func (e *end) write(ctx context.Context, after bool) error {
	var list []storage.Logout
	listed := map[owed]bool{}
	now := e.queue.now()
	for page := (storage.Page{Limit: 1000}); ; {
		grants, err := e.queue.store.ListGrants(ctx, e.user, page)
		if err != nil {
			return err
		}
		for _, g := range grants {
			o := owed{g.Client, g.Session}
			if g.RedeemedAt.IsZero() || e.session != "" && g.Session != e.session || e.to != nil && !e.to[g.Client] || e.added[o] || listed[o] {
				continue
			}
			concerned, err := e.concerned(ctx, g.Session, after)
			if err != nil {
				return err
			}
			if concerned {
				listed[o] = true
				list = append(list, storage.Logout{Client: g.Client, Session: g.Session, CreatedAt: now, DueAt: now, Expires: now.Add(tryFor)})
			}
		}
		if len(grants) < page.Limit {
			break
		}
		page.After = string(grants[len(grants)-1].ID)
	}
	if len(list) == 0 {
		return nil
	}
	err := e.queue.store.AddLogouts(ctx, list)
	if err == nil {
		maps.Copy(e.added, listed)
	}
	return err
}

// concerned reports whether this end ends the session: it was good before, or
// if it is seen only after, it is dead now and was not ended by itself. What
// had ended before is not told again.
func (e *end) concerned(ctx context.Context, id storage.SessionID, after bool) (bool, error) {
	if known, ok := e.concerns[id]; ok {
		return known, nil
	}
	x, u, err := e.queue.store.SessionUser(ctx, id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return false, err
	}
	now := e.queue.now()
	live := err == nil && revocation.SessionLive(x, u, now) == nil
	switch {
	case !after:
		e.concerns[id] = live
	case err != nil:
		e.concerns[id] = true // removed with its user
	default:
		e.concerns[id] = !live && (e.session != "" || x.EndedAt.IsZero()) && now.Before(x.Expires)
	}
	return e.concerns[id], nil
}
