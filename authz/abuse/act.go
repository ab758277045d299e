package abuse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/throttle"
	"github.com/solegate/solegate/storage"
)

// settle does what was decided about u and is not yet done, if it is mine to do.
func (j *Judge) settle(ctx context.Context, u *storage.User, c *storage.Case, mine func(storage.Decision) bool) error {
	for i, d := range c.Decisions {
		if d.Withheld != Pending || !mine(d) {
			continue
		}
		outcome, err := j.act(ctx, u, d)
		if err != nil {
			return fmt.Errorf("do what the rule %s decided: %w", d.Rule, err)
		}
		// Written down before the case says that it is done: after a crash in
		// between it is there twice, and not missing.
		if outcome != Cap || !cappedBefore(c, d.Rule, i) {
			if err := j.decided(ctx, u.ID, d, outcome); err != nil {
				return fmt.Errorf("write into the audit log what the rule %s decided: %w", d.Rule, err)
			}
		}
		if err := j.done(ctx, u.ID, d, outcome); err != nil {
			return err
		}
	}
	return nil
}

// done notes in the case what became of d. If somebody dismissed the case while
// it was done, it is undone.
func (j *Judge) done(ctx context.Context, id storage.UserID, d storage.Decision, outcome string) error {
	undo := false
	err := j.change(ctx, id, func(c *storage.Case) bool {
		undo = slices.ContainsFunc(c.Decisions, func(x storage.Decision) bool {
			return x.Rule == d.Rule && x.At.Equal(d.At) && x.Withheld == Dismissed
		})
		return j.Policy.settled(c, d, outcome, j.Now())
	})
	if err == nil && undo && outcome == "" {
		return j.lift(ctx, id, "the case was dismissed")
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil // the case went with the account
	}
	return err
}

// cap is how many accounts may be suspended, or a login demanded of, by all
// servers of the store.
func (j *Judge) cap() throttle.Bucket {
	return throttle.Bucket{Kind: "suspended by policy", Limit: throttle.Limit{N: j.Policy.SuspendPerHour, Window: time.Hour}}
}

// act does what was decided, or says why it is withheld.
func (j *Judge) act(ctx context.Context, u *storage.User, d storage.Decision) (outcome string, err error) {
	r := j.Policy.rule(d.Rule)
	switch {
	case r == nil || string(r.Action) != d.Action:
		return Changed, nil
	case j.Policy.exempt(u, r):
		return Exempt, nil
	case j.Policy.DryRun:
		return DryRun, nil
	case !d.Until.IsZero() && !j.Now().Before(d.Until):
		return Late, nil
	case u.UnblockedAt.After(d.At):
		// It may have been done, and its server died before the case said so: the
		// operator has seen it, and has the last word.
		return Dismissed, nil
	}
	switch r.Action {
	case Tell:
		j.Log.Warn("an account is reported for what a rule is to tell; look at it with: solegate abuse show "+string(u.ID), "rule", r.Name, "because", d.Because)
	case Throttle:
		err = j.Revoker.ThrottleUser(ctx, u.ID, storage.Throttle{Rule: r.Name, Reason: d.Because, Until: d.Until, Every: r.Every})
	default:
		if r.Action == Suspend && suspendedBy(u, d) {
			return "", nil // and counted: only the answer was lost
		}
		wait, err := j.throttle.Try(ctx, j.cap())
		if err != nil {
			return "", fmt.Errorf("count the suspended: %w", err)
		}
		if wait > 0 {
			j.capReached(wait)
			return Cap, nil
		}
		if r.Action == Suspend {
			err = j.Revoker.SuspendUser(ctx, u.ID, r.Name, d.Because, d.Until)
		} else {
			err = j.Revoker.DemandLogin(ctx, u.ID, r.Name, d.Because)
		}
		if err != nil && !j.mayHaveEnded(context.WithoutCancel(ctx), u, err) {
			j.throttle.TakeBack(context.WithoutCancel(ctx), j.cap()) // if that fails one is suspended less
		}
		return gone(err)
	}
	return gone(err)
}

// suspendedBy reports whether u is suspended by what was decided already.
func suspendedBy(u *storage.User, d storage.Decision) bool {
	b := u.Block
	return b != nil && b.Rule == d.Rule && b.Until.Equal(d.Until) && !b.At.Before(d.At)
}

// mayHaveEnded reports whether what u has may have ended although err came of it:
// then it counts. Whoever reports may have hung up.
func (j *Judge) mayHaveEnded(ctx context.Context, u *storage.User, err error) bool {
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrUnknown) {
		return errors.Is(err, storage.ErrUnknown)
	}
	now, err := j.Store.User(ctx, u.ID)
	return err != nil || now.Epoch != u.Epoch
}

// gone makes an outcome of it that the account is no longer there.
func gone(err error) (string, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return Gone, nil
	}
	return "", err
}

// decided writes a decision into the audit log, and waits until it is there.
func (j *Judge) decided(ctx context.Context, id storage.UserID, d storage.Decision, outcome string) error {
	what := d.Action
	if Action(d.Action).lasts() {
		what += " until it is lifted"
		if !d.Until.IsZero() {
			what = d.Action + " until " + d.Until.UTC().Format(time.RFC3339)
		}
	}
	if outcome != "" {
		what += ", withheld (" + outcome + ")"
	}
	return j.Audit.Write(ctx, audit.Event{What: "policy decided", User: id, Rule: d.Rule, Reason: what + ": " + d.Because})
}

// Sweep does what was decided and could not be done by whoever decided it, and
// what was withheld because of the cap, if there is room now and the rule is
// still met. It reads every case.
func (j *Judge) Sweep(ctx context.Context) error {
	const limit = 100
	var errs []error
	for after := ""; ; {
		list, err := j.Store.ListCases(ctx, storage.Page{After: after, Limit: limit})
		if err != nil {
			return fmt.Errorf("list the cases: %w", err)
		}
		for _, c := range list {
			waits := func(d storage.Decision) bool { return d.Withheld == Pending || d.Withheld == Cap }
			if !slices.ContainsFunc(c.Decisions, waits) {
				continue
			}
			if err := j.consider(ctx, c.User, nil); err != nil && len(errs) < 10 {
				errs = append(errs, err)
			}
		}
		if len(list) < limit || ctx.Err() != nil {
			return errors.Join(errs...)
		}
		after = string(list[len(list)-1].User)
	}
}

// Run sweeps at the begin, in case a server died over a decision, and now and
// then, until ctx ends.
func (j *Judge) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := j.Sweep(ctx); err != nil && ctx.Err() == nil {
			j.Log.Error("what the policy decided could not all be done; trying again in ten minutes, or when the accounts are reported again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const sweepEvery = 10 * time.Minute
