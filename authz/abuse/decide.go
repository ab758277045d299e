package abuse

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// What Decision.Withheld says, beside "" for what was done.
const (
	// Pending is a decision that is stored and not yet done, or that a server
	// died over: it is done when the account is reported again, or by Run.
	Pending = "pending"
	// DryRun, Cap and Exempt are why nothing was done, by Policy.
	DryRun = "dry run"
	Cap    = "cap"
	Exempt = "exempt"
	// Changed is what the policy decided before its rules were changed.
	Changed = "policy changed"
	// Dismissed is what an operator dismissed, or lifted, before it was done.
	Dismissed = "dismissed"
	// Late is what a server died over, and would be over by now.
	Late = "too late"
	// Gone is what came too late: the account was removed.
	Gone = "account removed"
)

// Dismiss is the action of the decision of whoever finds nothing in a case.
const dismiss = "dismiss"

// Open reports whether something was reported since the case was last
// dismissed.
func Open(c storage.Case) bool {
	return c.DismissedAt.IsZero() || c.OpenedAt.After(c.DismissedAt)
}

// incoming is what a resource server reports of one account at once.
type incoming struct {
	from    clients.ID
	batch   storage.Hash
	again   bool // the batch was sent before: what of it was counted is not known
	reports []reports.Report
}

// standing is what is in force for the account now, of whoever it is.
type standing struct {
	suspended, throttled           bool
	suspendedUntil, throttledUntil time.Time // zero is until it is lifted
	every                          time.Duration
}

// decide is the whole of what the policy thinks: given a case of u, with what is
// reported (nil: nothing is), it returns the case as it is next. What is decided
// is in it as Pending. It says whether anything changed. room is whether more accounts may be suspended now, where
// that was why a decision was withheld.
func (p *Policy) decide(c storage.Case, u *storage.User, is standing, in *incoming, room bool, now time.Time) (next storage.Case, changed bool) {
	before := c
	c = clone(c)
	if in != nil && !p.take(&c, in, now) {
		return before, false
	}
	changed = in != nil
	c.Tallies = slices.DeleteFunc(c.Tallies, func(t storage.CaseTally) bool { return lapsed(t, p, now) })
	for _, i := range p.byHarshness() {
		r := &p.Rules[i]
		met, because := p.met(&c, r, now)
		if !met || p.holds(&c, u, is, r, room, now) {
			continue
		}
		c.Decisions = append(c.Decisions, storage.Decision{At: now, Rule: r.Name, Action: string(r.Action), Until: r.until(now), Withheld: Pending, Because: because})
		c.UpdatedAt, changed = now, true
	}
	if !changed {
		return before, false
	}
	bound(&c)
	c.Expires = p.expires(&c, now)
	return c, true
}

// expires is when a case that changed now is no longer needed.
func (p *Policy) expires(c *storage.Case, now time.Time) time.Time {
	at := now.Add(p.Keep)
	for _, d := range c.Decisions {
		if d.Until.After(at) && d.Withheld == "" {
			at = d.Until
		}
	}
	return at
}

// take puts what is reported into the case: as evidence, and where it counts
// into the tallies. It reports false if it is there already.
func (p *Policy) take(c *storage.Case, in *incoming, now time.Time) bool {
	if slices.Contains(c.Batches, in.batch) {
		return false
	}
	// Others may have pushed out what says that this one is in it.
	unsure := in.again && len(c.Batches) == storage.MaxBatches
	if c.OpenedAt.IsZero() {
		c.OpenedAt = now
	}
	c.UpdatedAt = now
	c.Batches = append(c.Batches, in.batch)
	if over := len(c.Batches) - storage.MaxBatches; over > 0 {
		c.Batches = slices.Delete(c.Batches, 0, over)
	}
	if unsure {
		return true
	}
	for i := range in.reports {
		one := &in.reports[i]
		c.Reported += uint64(one.Count)
		note(c, in.from, one, now)
		at := happened(one, now)
		if !c.DismissedAt.IsZero() && !at.After(c.DismissedAt) {
			continue // what an operator has dismissed, only late
		}
		if !Open(*c) {
			c.OpenedAt = now
		}
		if slices.Contains(p.ExemptClients, one.Client) {
			continue
		}
		for j := range p.Rules {
			r := &p.Rules[j]
			if n := counts(one, r.Within, now); n > 0 && r.matches(one) {
				add(tallyOf(c, p, r, in.from, now), n, at, r.Within, now)
			}
		}
	}
	return true
}

// maxNamed is how many resource servers a decision names: enough for anybody, and
// within [storage.MaxBecause].
const maxNamed = 8

// met reports whether enough resource servers have each reported enough, and
// says it in words.
func (p *Policy) met(c *storage.Case, r *Rule, now time.Time) (bool, string) {
	var enough []string
	for _, t := range c.Tallies {
		if t.Rule != r.Name {
			continue
		}
		if n := estimate(t, r.Within, now); n >= r.Count {
			enough = append(enough, fmt.Sprintf("%s %d times", t.ResourceServer, n))
		}
	}
	if len(enough) < r.ResourceServers {
		return false, ""
	}
	slices.Sort(enough)
	if n := len(enough) - maxNamed; n > 0 {
		enough = append(enough[:maxNamed], fmt.Sprintf("and %d more", n))
	}
	what := "reports"
	if r.Kind != "" {
		what = string(r.Kind)
	}
	if r.Reason != "" {
		what += " " + r.Reason
	}
	return true, fmt.Sprintf("%s within %s: %s; asked for are %d times from %d", what, r.Within, strings.Join(enough, ", "), r.Count, r.ResourceServers)
}

// holds reports whether what r asks for is in force already, or something
// harsher is, or it was decided and can't be done.
func (p *Policy) holds(c *storage.Case, u *storage.User, is standing, r *Rule, room bool, now time.Time) bool {
	covers := func(action Action, until time.Time, every time.Duration) bool {
		switch {
		case !action.lasts() || r.Action == Tell || action.harshness() < r.Action.harshness():
			return false
		case action.harshness() > r.Action.harshness():
			return true
		}
		return !later(r.until(now), until) && every >= r.Every
	}
	if is.suspended && covers(Suspend, is.suspendedUntil, 0) || is.throttled && covers(Throttle, is.throttledUntil, is.every) {
		return true
	}
	other := false // a later decision of the rule was seen
	for _, d := range slices.Backward(c.Decisions) {
		if d.Action == dismiss {
			return false // what is before it no longer is
		}
		own := d.Rule == r.Name && !other
		other = other || own
		every := time.Duration(0)
		if by := p.rule(d.Rule); by != nil {
			every = by.Every
		}
		switch d.Withheld {
		case Pending:
			if own || covers(Action(d.Action), d.Until, every) {
				return true
			}
		case DryRun: // as if it were
			if p.DryRun && goes(d, p, now) && (own || covers(Action(d.Action), d.Until, every)) {
				return true
			}
		case Exempt:
			if own && p.exempt(u, r) && goes(d, p, now) {
				return true
			}
		case Cap:
			if own && !room {
				return true
			}
		case "":
			// The account says whether a suspension or a throttle is still
			// there: an operator may have lifted it.
			there := !Action(d.Action).lasts() || d.Action == string(Suspend) && is.suspended || d.Action == string(Throttle) && is.throttled
			if own && there && goes(d, p, now) {
				return true
			}
		}
	}
	return false
}

// goes reports whether what was decided goes on at now: what has no length, for
// the rule's Within.
func goes(d storage.Decision, p *Policy, now time.Time) bool {
	if !Action(d.Action).lasts() {
		r := p.rule(d.Rule)
		return r != nil && now.Before(d.At.Add(r.Within))
	}
	return d.Until.IsZero() || now.Before(d.Until)
}

// later reports whether a is a later end than b; zero is never.
func later(a, b time.Time) bool {
	return !b.IsZero() && (a.IsZero() || a.After(b))
}

// byHarshness are the indices of the rules, the harshest first: what is milder
// need not be done beside it.
func (p *Policy) byHarshness() []int {
	order := make([]int, len(p.Rules))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &p.Rules[a], &p.Rules[b]
		if d := y.Action.harshness() - x.Action.harshness(); d != 0 {
			return d
		}
		switch { // the longest first
		case x.For == y.For:
			return 0
		case x.For == 0 || y.For != 0 && x.For > y.For:
			return -1
		}
		return 1
	})
	return order
}

// settled notes what became of a pending decision, and says false if it is
// pending no longer: somebody else was quicker. Once it was done, or would have
// been, its rule counts from zero. One that was withheld for the cap before and
// is so again is one decision.
func (p *Policy) settled(c *storage.Case, d storage.Decision, outcome string, now time.Time) bool {
	i := slices.IndexFunc(c.Decisions, func(x storage.Decision) bool {
		return x.Rule == d.Rule && x.At.Equal(d.At) && x.Action == d.Action && x.Withheld == Pending
	})
	if i < 0 {
		return false
	}
	c.Decisions = slices.Clone(c.Decisions)
	c.Decisions[i].Withheld = outcome
	if outcome == "" || outcome == DryRun || outcome == Exempt {
		c.Tallies = slices.DeleteFunc(slices.Clone(c.Tallies), func(t storage.CaseTally) bool { return t.Rule == d.Rule })
	}
	if outcome == Cap && cappedBefore(c, d.Rule, i) {
		c.Decisions = slices.Delete(c.Decisions, i, i+1)
	}
	c.UpdatedAt = now
	c.Expires = p.expires(c, now)
	return true
}

// cappedBefore reports whether the decision of the rule before the one at i was
// withheld for the cap.
func cappedBefore(c *storage.Case, rule string, i int) bool {
	for _, d := range slices.Backward(c.Decisions[:i]) {
		if d.Action == dismiss {
			return false
		}
		if d.Rule == rule {
			return d.Withheld == Cap
		}
	}
	return false
}

// dismissed closes the case: what was reported no longer counts, and what was
// decided and not yet done is not done.
func (p *Policy) dismissed(c storage.Case, operator, reason string, now time.Time) storage.Case {
	c = clone(c)
	for i := range c.Decisions {
		if c.Decisions[i].Withheld == Pending {
			c.Decisions[i].Withheld = Dismissed
		}
	}
	c.Decisions = append(c.Decisions, storage.Decision{At: now, Operator: operator, Action: dismiss, Because: reason})
	c.Tallies = nil
	c.DismissedAt, c.UpdatedAt = now, now
	bound(&c)
	c.Expires = p.expires(&c, now)
	return c
}

// bound drops the oldest decisions beyond the bound, but neither what is pending
// nor the last one of each rule, which say what is not to be decided again. If
// rules that are gone leave no room for these, the oldest goes.
func bound(c *storage.Case) {
	for len(c.Decisions) > storage.MaxDecisions {
		oldest := 0
		for i, d := range c.Decisions {
			again := func(x storage.Decision) bool { return x.Rule == d.Rule }
			if d.Withheld != Pending && slices.ContainsFunc(c.Decisions[i+1:], again) {
				oldest = i
				break
			}
		}
		c.Decisions = slices.Delete(c.Decisions, oldest, oldest+1)
	}
}

func clone(c storage.Case) storage.Case {
	c.Evidence, c.Tallies = slices.Clone(c.Evidence), slices.Clone(c.Tallies)
	c.Decisions, c.Batches = slices.Clone(c.Decisions), slices.Clone(c.Batches)
	return c
}
