// Package transfer moves what a store keeps to another one, or into one sealed
// file and back. It knows stores by their interface alone, so it works between
// any two backends.
//
// Everything is moved but what has expired, and but the memory of a minute:
// counters of throttles and what was used once, which is a proof or an
// assertion that is too old when a server starts on the copy. Events live for
// minutes, too, and yet are moved: without them an API would take tokens again
// that had ended. Their cursors are new, so whoever follows them begins anew.
// The audit log is moved line by line, with the links that it has: whether they
// fit is for the store's check to say.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Count is how many records of each kind there are.
type Count struct {
	Clients         int64 `json:"clients"`
	ResourceServers int64 `json:"resource_servers"`
	Users           int64 `json:"users"`
	Sessions        int64 `json:"sessions"`
	Grants          int64 `json:"grants"`
	Logouts         int64 `json:"logouts"`
	Events          int64 `json:"events"`
	Cases           int64 `json:"cases"`
	Audit           int64 `json:"audit"` // lines
	KeyRings        int64 `json:"key_rings"`
}

// Total is the sum.
func (c Count) Total() int64 {
	return c.Clients + c.ResourceServers + c.Users + c.Sessions + c.Grants + c.Logouts + c.Events + c.Cases + c.Audit + c.KeyRings
}

func (c *Count) add(r record) {
	_, n := r.which(c)
	atomic.AddInt64(n, r.size())
}

// page is how much is read at once.
const page = 500

// all reads a listing to its end.
func all[R any](ctx context.Context, list func(context.Context, storage.Page) ([]R, error), key func(R) string, visit func(R) error) error {
	for p := (storage.Page{Limit: page}); ; {
		part, err := list(ctx, p)
		if err != nil {
			return err
		}
		for _, r := range part {
			if err := visit(r); err != nil {
				return err
			}
			p.After = key(r)
		}
		if len(part) < page {
			return nil
		}
	}
}

// read visits everything in s that has not expired at now. What can end other
// things comes after them: a person's account after the person's sessions and
// grants, clients after all grants. So while the store is in use, whatever had
// ended something before it was read is visited, too. What is owed because
// something ended comes after that, and the events, which were there before
// anything ended. The key ring is last.
func read(ctx context.Context, s storage.Store, now time.Time, visit func(record) error) error {
	err := all(ctx, s.ListUsers, func(u storage.User) string { return u.Name }, func(u storage.User) error {
		err := all(ctx, func(ctx context.Context, p storage.Page) ([]storage.Grant, error) { return s.ListGrants(ctx, u.ID, p) },
			func(g storage.Grant) string { return string(g.ID) }, func(g storage.Grant) error {
				if !now.Before(g.Expires) {
					return nil
				}
				return visit(record{Grant: &g})
			})
		if err != nil {
			return err
		}
		err = all(ctx, func(ctx context.Context, p storage.Page) ([]storage.Session, error) {
			return s.ListSessions(ctx, u.ID, p)
		},
			func(x storage.Session) string { return string(x.ID) }, func(x storage.Session) error {
				if !now.Before(x.Expires) {
					return nil
				}
				return visit(record{Session: &x})
			})
		if err != nil {
			return err
		}
		switch u, err := s.User(ctx, u.ID); {
		case errors.Is(err, storage.ErrNotFound): // removed meanwhile: what was visited is dead
			return nil
		case err != nil:
			return err
		default:
			return visit(record{User: &u})
		}
	})
	if err != nil {
		return err
	}
	err = all(ctx, s.ListClients, func(c clients.Client) string { return string(c.ID) }, func(c clients.Client) error { return visit(record{Client: &c}) })
	if err != nil {
		return err
	}
	err = all(ctx, s.ListResourceServers, func(rs clients.ResourceServer) string { return string(rs.ID) }, func(rs clients.ResourceServer) error { return visit(record{ResourceServer: &rs}) })
	if err != nil {
		return err
	}
	err = all(ctx, s.ListCases, func(c storage.Case) string { return string(c.User) }, func(c storage.Case) error {
		if !now.Before(c.Expires) {
			return nil
		}
		return visit(record{Case: &c})
	})
	if err != nil {
		return err
	}
	err = s.EachLogout(ctx, func(l storage.Logout) error {
		if !now.Before(l.Expires) {
			return nil
		}
		return visit(record{Logout: &l})
	})
	if err != nil {
		return err
	}
	if err := eachEvent(ctx, s, now, func(list []storage.Event) error { return visit(record{Events: list}) }); err != nil {
		return err
	}
	if err := eachAudit(ctx, s, func(after storage.AuditHead, lines []storage.AuditLine) error {
		return visit(record{AuditAfter: after, Audit: lines})
	}); err != nil {
		return err
	}
	switch ring, err := s.KeyRing(ctx); {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case err != nil:
		return err
	default:
		return visit(record{KeyRing: &ring})
	}
}

// Options of Copy and Restore.
type Options struct {
	// Resume lets the target have records already, of an attempt that was
	// interrupted: they must be the same.
	Resume bool
	// Sessions includes sessions and grants (Restore only).
	Sessions bool
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Progress is called now and then, from any goroutine, if it is not nil.
	Progress func(Count)
}

func (o *Options) complete() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Count) {}
	}
}

// ErrNotEmpty says that the target has something in it.
var ErrNotEmpty = errors.New("the target is not empty: name an empty one; if an earlier attempt onto it was interrupted, say --resume")

// empty returns ErrNotEmpty if there is anything in s.
func empty(ctx context.Context, s storage.Store) error {
	one := storage.Page{Limit: 1}
	users, err := s.ListUsers(ctx, one)
	if err != nil {
		return err
	}
	registered, err := s.ListClients(ctx, one)
	if err != nil {
		return err
	}
	servers, err := s.ListResourceServers(ctx, one)
	if err != nil {
		return err
	}
	if err := s.EachLogout(ctx, func(storage.Logout) error { return ErrNotEmpty }); err != nil {
		return err
	}
	events, _, err := s.Events(ctx, "", 1)
	if err != nil {
		return err
	}
	head, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	if len(events) > 0 || head.Seq > 0 {
		return ErrNotEmpty
	}
	cases, err := s.ListCases(ctx, one)
	if err != nil {
		return err
	}
	_, err = s.KeyRing(ctx)
	if err == nil || len(cases)+len(users)+len(registered)+len(servers) > 0 {
		return ErrNotEmpty
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return nil
}

// Copy copies everything from one store to another and then checks it. No
// server may run on either meanwhile: a change of what was copied already is
// found by the check, and is an error. It returns how much there is. After an
// interruption it can be run again, with Resume.
func Copy(ctx context.Context, from, to storage.Store, o Options) (Count, error) {
	o.complete()
	if !o.Resume {
		if err := empty(ctx, to); err != nil {
			return Count{}, err
		}
	}
	now := o.Now()
	copied, err := write(ctx, to, o, func(visit func(record) error) error { return read(ctx, from, now, visit) })
	if err != nil {
		return copied, err
	}
	// Both ways: what is there is here and the same, and there is no more.
	var there eventIndex
	checked, err := each(o, func(visit func(record) error) error { return read(ctx, from, now, visit) }, func(r record) error {
		found, err := get(ctx, to, r, &there)
		if err == nil && !same(found, r) || errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("%s changed while it was copied: stop every server, and copy again onto an empty target", r)
		}
		return err
	})
	if err != nil {
		return copied, err
	}
	var present Count
	if err := read(ctx, to, now, func(r record) error { present.add(r); return nil }); err != nil {
		return copied, err
	}
	if present != checked || present != copied {
		return copied, fmt.Errorf("%+v were copied, and %+v are there: stop every server, and copy again onto an empty target", copied, present)
	}
	return copied, nil
}

// write puts the records into a store.
func write(ctx context.Context, to storage.Store, o Options, source func(visit func(record) error) error) (Count, error) {
	there := eventIndex{read: !o.Resume} // or it is empty
	return each(o, source, func(r record) error {
		err := put(ctx, to, r, &there, o.Now())
		// An outcome that is not known is looked up like one of before.
		if errors.Is(err, storage.ErrExists) && o.Resume || errors.Is(err, storage.ErrUnknown) {
			if len(r.Events) > 0 { // one at a time, unlike all others
				there.again()
			}
			found, getErr := get(ctx, to, r, &there)
			if getErr != nil {
				return fmt.Errorf("%s: %w", r, errors.Join(err, getErr))
			}
			if !same(found, r) {
				return fmt.Errorf("%s is in the target already, and is another one: copy onto an empty target", r)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		return nil
	})
}

// workers is how many records are under way at once: a round trip each.
const workers = 32

// each calls do with every record of the source, several at a time but events
// and the audit log, which have an order, and the key ring alone and last, and counts them. It
// stops at the first error.
func each(o Options, source func(visit func(record) error) error, do func(record) error) (Count, error) {
	var (
		count  Count
		failed atomic.Pointer[error]
		work   sync.WaitGroup
		todo   = make(chan record)
	)
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	for range workers {
		work.Go(func() {
			for r := range todo {
				if failed.Load() != nil {
					continue
				}
				if err := do(r); err != nil {
					fail(err)
					continue
				}
				count.add(r)
			}
		})
	}
	var ring *record
	n := 0
	err := source(func(r record) error {
		if err := failed.Load(); err != nil {
			return *err
		}
		if r.KeyRing != nil {
			ring = &r
			return nil
		}
		if r.ordered() {
			err := do(r)
			if err == nil {
				count.add(r)
			}
			return err
		}
		todo <- r
		if n++; n%page == 0 {
			o.Progress(count.load())
		}
		return nil
	})
	close(todo)
	work.Wait()
	if failed.Load() != nil {
		err = *failed.Load()
	}
	if err == nil && ring != nil {
		if err = do(*ring); err == nil {
			count.add(*ring)
		}
	}
	o.Progress(count)
	return count, err
}

// load reads the counts while others count.
func (c *Count) load() Count {
	return Count{
		atomic.LoadInt64(&c.Clients), atomic.LoadInt64(&c.ResourceServers), atomic.LoadInt64(&c.Users),
		atomic.LoadInt64(&c.Sessions), atomic.LoadInt64(&c.Grants), atomic.LoadInt64(&c.Logouts), atomic.LoadInt64(&c.Events),
		atomic.LoadInt64(&c.Cases), atomic.LoadInt64(&c.Audit), atomic.LoadInt64(&c.KeyRings),
	}
}
