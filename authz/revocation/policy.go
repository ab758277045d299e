package revocation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// Here is what a rule of the policy does to an account, and how it is undone.
// What an operator did counts for more than any rule: no rule replaces it, and
// Lift leaves it. That is decided by the record that is replaced, so also when
// an operator, or another replica, is at it at the same time.

// errKept: there is nothing to change. To callers that is no error.
var errKept = errors.New("nothing to change")

// errNoRule would make of what a rule does something that was done by hand.
var errNoRule = errors.New("the name of the rule expected, it is empty")

// SuspendUser is BlockUser for the rule of the policy that is so named. It
// neither shortens nor replaces a block by hand or a suspension that lasts as
// long: then it returns nil, and nothing changes.
func (r *Revoker) SuspendUser(ctx context.Context, id storage.UserID, rule, reason string, until time.Time) error {
	now := r.Now()
	next := storage.Block{Rule: rule, Reason: reason, At: now, Until: until}
	err := errNoRule
	if rule != "" {
		err = r.ends(ctx, id, "", func() error {
			return r.userIf(ctx, id, feed.ReasonBlocked, func(u storage.User) bool {
				return !Blocked(u, now) || u.Block.Rule != "" && later(until, u.Block.Until) || same(*u.Block, next)
			}, func(u *storage.User) { u.Block = &next })
		})
	}
	return r.record(ctx, err, "suspend user", audit.Event{What: "user suspended", User: id, Rule: rule, Reason: reason})
}

// ThrottleUser slows the user down as t says; t.At is set to now. Nothing ends.
// It never makes faster or shortens: of a throttle that is there and lasts
// longer, or is slower, that stays. If nothing is left to change it returns nil.
func (r *Revoker) ThrottleUser(ctx context.Context, id storage.UserID, t storage.Throttle) error {
	t.At = r.Now()
	err := errNoRule
	switch {
	case t.Rule == "":
	case t.Every <= 0 || t.Every > storage.MaxEvery:
		err = fmt.Errorf("one login in each %s: at most %s expected, and more than none", t.Every, storage.MaxEvery)
	default:
		err = r.userIf(ctx, id, "", func(u storage.User) bool {
			old := u.Throttle
			return !Throttled(u, t.At) || later(t.Until, old.Until) || t.Every > old.Every || old.Rule == t.Rule && old.At.Equal(t.At)
		}, func(u *storage.User) {
			next := t
			if Throttled(*u, t.At) {
				if later(u.Throttle.Until, t.Until) {
					next.Until = u.Throttle.Until
				}
				next.Every = max(t.Every, u.Throttle.Every)
			}
			u.Throttle = &next
		})
	}
	return r.record(ctx, err, "throttle user", audit.Event{What: "user throttled", User: id, Rule: t.Rule, Reason: t.Reason})
}

// DemandLogin is RevokeUser for the rule of the policy that is so named: the
// person has to prove anew who they are.
func (r *Revoker) DemandLogin(ctx context.Context, id storage.UserID, rule, reason string) error {
	err := errNoRule
	if rule != "" {
		err = r.endUser(ctx, id, "revoked", func(*storage.User) {})
	}
	return r.record(ctx, err, "demand login", audit.Event{What: "login demanded", User: id, Rule: rule, Reason: reason})
}

// Lift ends what rules did to the user, suspension and throttle, and not a
// block by hand. What was ended stays ended. If there is nothing to lift it
// returns nil.
func (r *Revoker) Lift(ctx context.Context, id storage.UserID, reason string) error {
	suspended := func(u storage.User) bool { return u.Block != nil && u.Block.Rule != "" }
	rule := ""
	err := r.userIf(ctx, id, "", func(u storage.User) bool {
		// With a rule it was lifted a moment ago, and the answer was lost.
		return suspended(u) || u.Throttle != nil || rule != ""
	}, func(u *storage.User) {
		if u.Throttle != nil {
			rule, u.Throttle = u.Throttle.Rule, nil
		}
		if suspended(*u) {
			rule, u.Block = u.Block.Rule, nil
		}
	})
	return r.record(ctx, err, "lift", audit.Event{What: "user suspension lifted", User: id, Rule: rule, Reason: reason})
}

// same reports whether a is what was just made of b.
func same(a, b storage.Block) bool {
	return a.Rule == b.Rule && a.At.Equal(b.At) && a.Until.Equal(b.Until)
}

// Throttled reports whether u is slowed down at now.
func Throttled(u storage.User, now time.Time) bool {
	return u.Throttle != nil && u.Throttle.Every > 0 && (u.Throttle.Until.IsZero() || now.Before(u.Throttle.Until))
}

// Suspended reports whether a rule keeps u from logging in at now.
func Suspended(u storage.User, now time.Time) bool { return Blocked(u, now) && u.Block.Rule != "" }

// later reports whether what lasts until a lasts longer than what lasts until b.
// Zero is for ever.
func later(a, b time.Time) bool {
	return !b.IsZero() && (a.IsZero() || a.After(b))
}
