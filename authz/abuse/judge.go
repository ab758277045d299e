package abuse

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/authz/throttle"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// Config is what a [Judge] is made of. Store, Revoker and Audit are required.
type Config struct {
	Store   Store
	Revoker *revocation.Revoker
	Audit   *audit.Log

	// Policy must be one without Problems.
	Policy Policy

	// Log takes warnings; nil discards them.
	Log *slog.Logger
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// Store is what a Judge needs of [storage.Store].
type Store interface {
	storage.Clients
	storage.Users
	storage.Grants
	storage.Cases
	storage.Counters
	storage.Replays
}

// Judge takes reports and decides. It is safe for concurrent use, and any number
// of them may work on one store.
type Judge struct {
	Config
	throttle *throttle.Throttle
	slots    chan struct{} // has one for each account that is looked at now
	told     told
}

// New returns a Judge.
func New(c Config) *Judge {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Policy.Rules = slices.Clone(c.Policy.Rules)
	c.Policy.Problems() // the defaults
	// What is counted is of nobody, so there is nothing to hide from the store.
	return &Judge{Config: c, throttle: throttle.New(c.Store, [32]byte{}, c.Now), slots: make(chan struct{}, allAtOnce)}
}

// Bounds of a batch: the API that sends it waits ten seconds for the answer, and
// sends what was not done again.
const (
	batchTime   = 8 * time.Second // for all of it
	accountTime = 5 * time.Second // for one account of it
	atOnce      = 4               // accounts of it at once
	allAtOnce   = 16              // accounts of all batches at once
)

// tries bounds how often a case is decided again because it was changed in
// between.
const tries = 10

// Report takes a batch of a resource server that has proved who it is, and
// returns when all of it is stored and what was decided is done. What is not
// believed is in the audit log and no error. After an error the same batch is to
// come again: what was counted of it is not counted twice.
func (j *Judge) Report(ctx context.Context, rs clients.ResourceServer, b reports.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	now := j.Now()
	batch := sha256.Sum256([]byte("reports\x00" + string(rs.ID) + "\x00" + b.ID))
	err := j.Store.Once(ctx, batch, now, now.Add(reports.Remember))
	again := errors.Is(err, storage.ErrExists)
	if err != nil && !again {
		return fmt.Errorf("remember the batch: %w", err)
	}
	accounts := make(chan *incoming)
	var (
		work     sync.WaitGroup
		mu       sync.Mutex // guards what follows
		failed   int
		first    error
		doubtful []reports.Report
	)
	for range atOnce {
		work.Go(func() {
			for in := range accounts {
				doubts, err := j.account(ctx, rs, in)
				mu.Lock()
				doubtful = append(doubtful, doubts...)
				if err != nil {
					failed++
					if first == nil {
						first = err
					}
				}
				mu.Unlock()
			}
		})
	}
	for _, in := range bySubject(rs.ID, batch, again, b.Reports) {
		accounts <- in
	}
	close(accounts)
	work.Wait()
	if len(doubtful) > 0 {
		j.doubt(ctx, rs, doubtful)
	}
	if first != nil {
		return fmt.Errorf("%d accounts of the batch, the first of them: %w", failed, first)
	}
	return nil
}

// bySubject puts together what is reported of one account.
func bySubject(from clients.ID, batch storage.Hash, again bool, list []reports.Report) []*incoming {
	var all []*incoming
	of := map[string]*incoming{}
	for _, r := range list {
		in := of[r.Subject]
		if in == nil {
			in = &incoming{from: from, batch: batch, again: again}
			of[r.Subject] = in
			all = append(all, in)
		}
		in.reports = append(in.reports, r)
	}
	return all
}

// account takes what is reported of one account, and returns what of it is not
// believed.
func (j *Judge) account(ctx context.Context, rs clients.ResourceServer, in *incoming) (doubts []reports.Report, err error) {
	select {
	case j.slots <- struct{}{}:
		defer func() { <-j.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("too much is reported at once: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	id := storage.UserID(in.reports[0].Subject)
	_, err = j.Store.User(ctx, id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return j.machines(ctx, rs, in.reports)
	case err != nil:
		return nil, fmt.Errorf("read the account: %w", err)
	}
	in.reports, doubts, err = j.believed(ctx, rs, id, in.reports)
	if err != nil || len(in.reports) == 0 {
		return doubts, err
	}
	return doubts, j.consider(ctx, id, in)
}

// consider decides with what is reported (nil: nothing is) and does what was
// decided.
func (j *Judge) consider(ctx context.Context, id storage.UserID, in *incoming) error {
	opened := false
	for try := 1; ; try++ {
		// The case before the account: what the case says was done is then in
		// the account.
		c, err := j.Store.Case(ctx, id)
		if errors.Is(err, storage.ErrNotFound) {
			c, err = storage.Case{User: id}, nil
		}
		if err != nil {
			return fmt.Errorf("read the case: %w", err)
		}
		now := j.Now()
		if !c.Expires.IsZero() && !now.Before(c.Expires) { // and not yet swept
			c = storage.Case{User: id, Version: c.Version}
		}
		u, err := j.Store.User(ctx, id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // removed a moment ago
		} else if err != nil {
			return fmt.Errorf("read the account: %w", err)
		}
		room := true
		if capped(&c) {
			wait, err := j.throttle.Allowed(ctx, j.cap())
			if err != nil {
				return fmt.Errorf("read how many were suspended: %w", err)
			}
			room = wait == 0
		}
		next, changed := j.Policy.decide(c, &u, stands(&u, now), in, room, now)
		if changed {
			opens := Open(next) && (!Open(c) || c.OpenedAt.IsZero())
			err := j.Store.PutCase(ctx, next)
			switch {
			case errors.Is(err, storage.ErrConflict) && try < tries:
				continue
			case errors.Is(err, storage.ErrUnknown) && try < tries:
				opened = opened || opens
				continue // what was written, if it was, is then there
			case err != nil:
				return fmt.Errorf("write the case: %w", err)
			}
			opened = opened || opens
		}
		if opened && in != nil {
			j.opened(ctx, id, in)
		}
		return j.settle(ctx, &u, &next, func(d storage.Decision) bool {
			// Another server is about to do what it decided a moment ago, unless
			// it has failed and this is the batch again.
			fresh := !slices.ContainsFunc(c.Decisions, func(x storage.Decision) bool { return x.Rule == d.Rule && x.At.Equal(d.At) })
			return fresh || in != nil && !changed || now.Sub(d.At) > stuck
		})
	}
}

// stuck is after how long a pending decision is no longer about to be done by
// whoever decided it.
const stuck = 15 * time.Second

// capped reports whether a decision was withheld because of the cap.
func capped(c *storage.Case) bool {
	for _, d := range c.Decisions {
		if d.Withheld == Cap {
			return true
		}
	}
	return false
}

// stands is what is in force for u. What an operator did counts for more than
// any rule, so it is as if it lasted for ever.
func stands(u *storage.User, now time.Time) (is standing) {
	if revocation.Blocked(*u, now) {
		is.suspended = true
		if u.Block.Rule != "" {
			is.suspendedUntil = u.Block.Until
		}
	}
	if revocation.Throttled(*u, now) {
		is.throttled, is.throttledUntil, is.every = true, u.Throttle.Until, u.Throttle.Every
	}
	return is
}

// Dismiss closes the account's case: what was reported before no longer counts,
// and what the policy did is lifted, not what an operator did. The reason is for
// whoever looks at the case. It returns storage.ErrNotFound if there is no case;
// after another error it is to be done again.
func (j *Judge) Dismiss(ctx context.Context, id storage.UserID, reason string) error {
	if len(reason) > maxReason {
		return fmt.Errorf("dismiss: the reason has %d bytes, at most %d are expected", len(reason), maxReason)
	}
	// Closed first: what is decided and not done is not done from here on.
	err := j.change(ctx, id, func(c *storage.Case) bool {
		*c = j.Policy.dismissed(*c, cut(audit.Operator(ctx)), reason, j.Now())
		return true
	})
	if err == nil {
		err = j.lift(ctx, id, reason)
	}
	if err != nil {
		return fmt.Errorf("dismiss: %w", err)
	}
	return j.Audit.Write(ctx, audit.Event{What: "case dismissed", User: id, Reason: reason})
}

func cut(s string) string { return s[:min(len(s), maxReason)] }

// maxReason bounds what an operator may write into a case.
const maxReason = 512

// lift lifts what the policy did to an account, if that is still there.
func (j *Judge) lift(ctx context.Context, id storage.UserID, reason string) error {
	if err := j.Revoker.Lift(ctx, id, reason); !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return nil
}

// change changes a case that is there. do may be called again with the case as
// somebody else has left it; if it returns false nothing is written.
func (j *Judge) change(ctx context.Context, id storage.UserID, do func(*storage.Case) bool) error {
	for try := 1; ; try++ {
		c, err := j.Store.Case(ctx, id)
		if err != nil {
			return fmt.Errorf("read the case: %w", err)
		}
		if !do(&c) {
			return nil
		}
		err = j.Store.PutCase(ctx, c)
		if (errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrUnknown)) && try < tries {
			continue
		}
		if err != nil {
			return fmt.Errorf("write the case: %w", err)
		}
		return nil
	}
}
