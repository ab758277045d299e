// Package abuse makes evidence of what resource servers report, and decisions of
// evidence.
//
// A [Judge] takes the batches of reports (see keys/verify/reports). What one
// says of an account is believed where it concerns the reporter: the account has
// a grant for its audience, by the app and in the login that the report names, or
// so many that they can't be looked through.
// What is believed goes into the account's [storage.Case]: who, with which app,
// in which login, from where, when and how often. A [Policy] says what becomes
// of it; without rules nothing does, and an operator looks at the cases.
//
// # When a rule is met
//
// Each resource server is counted by itself, in a window that slides. A rule is
// met when at least ResourceServers of them have reached Count within Within. So
// a flood of reports from one, whose credential was stolen, never suffices where
// two are asked for.
//
// What a rule decided is not decided again while it lasts: a suspension or a
// throttle until it ends or is lifted, and after a login was demanded or somebody
// was told, nothing for Within. With the decision the rule counts from zero, so
// that nobody is punished twice for the same. A harsher or longer action may be
// added all the same, a milder one is not. What an operator dismissed is as if it
// had never been reported.
//
// # What is certain
//
// A batch that comes again, because its answer was lost or it failed in the
// middle, is counted once for each account. It is not counted where nobody can
// say whether it was: if an account was in [storage.MaxBatches] other batches
// meanwhile.
//
// A decision is stored before it is done, and is done at least once: if the
// server dies in between, when the account is reported again, or when [Judge.Run]
// of any server comes by.
package abuse

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// Action is what a rule does to an account.
type Action string

// The actions, from mild to harsh.
const (
	Tell     Action = "tell"     // a line in the audit log, and a warning in the log
	Throttle Action = "throttle" // at most one login and one refresh in each Every
	Login    Action = "login"    // all sessions end; the person may log in again
	Suspend  Action = "suspend"  // all sessions end; no login, no refresh
)

// harshness orders the actions; 0 is none of them.
func (a Action) harshness() int {
	return 1 + slices.Index([]Action{Tell, Throttle, Login, Suspend}, a)
}

// lasts reports whether the action has an effect that stays.
func (a Action) lasts() bool { return a == Throttle || a == Suspend }

// Policy says what becomes of accounts that are reported. The zero value keeps
// evidence and does nothing.
type Policy struct {
	// Rules are at most MaxRules.
	Rules []Rule
	// DryRun does everything but the actions.
	DryRun bool
	// SuspendPerHour is how many accounts an hour the policy may suspend, or
	// demand a login of, at all servers together: 10 if zero. What is beyond it
	// is done when there is room, if the rule is met then.
	SuspendPerHour int
	// ExemptUsers are the names (in the form that is stored) or ids of accounts
	// to which nothing is done, and ExemptClients those by whose tokens nothing
	// is counted. There is evidence of them all the same.
	ExemptUsers, ExemptClients []string
	// Keep is how long a case is kept after its last change: 90 days if zero.
	Keep time.Duration
}

// Rule is: who is reported Count times within Within gets Action.
type Rule struct {
	// Name is in every decision: letters, digits and "._-", at most 64.
	Name string
	// Kind and Reason are those of the reports that count; empty is any.
	Kind   reports.Kind
	Reason string
	Count  int           // 1 to reports.MaxCount
	Within time.Duration // a minute to 30 days
	// ResourceServers is how many different ones must each have reported Count
	// within Within: 1 if zero.
	ResourceServers int
	Action          Action
	// For is how long a throttle or a suspension lasts; zero is until it is
	// lifted.
	For time.Duration
	// Every is for Throttle: see [storage.Throttle].
	Every time.Duration
	// ExemptUsers are as in Policy, for this rule.
	ExemptUsers []string
}

// Bounds of a policy.
const (
	MaxRules           = 12 // so that the last decision of each is in a case
	MaxResourceServers = storage.MaxTallies / 4
	MaxExempt          = 1000

	minWithin, maxWithin = time.Minute, 30 * 24 * time.Hour
	minKeep, maxKeep     = 24 * time.Hour, 5 * 365 * 24 * time.Hour
	minFor, maxFor       = time.Minute, 365 * 24 * time.Hour
	minEvery, maxEvery   = time.Second, 24 * time.Hour
	maxName              = 64
	maxSuspendPerHour    = 1_000_000
)

// Problem is a setting that can't be: its name as in the section abuse of the
// configuration file ("rules[0].count"), and what is wrong with what to do.
type Problem struct{ Setting, Text string }

// Problems fills in the defaults of what is zero and returns every mistake.
func (p *Policy) Problems() (list []Problem) {
	problem := func(setting, format string, args ...any) {
		list = append(list, Problem{setting, fmt.Sprintf(format, args...)})
	}
	if p.SuspendPerHour == 0 {
		p.SuspendPerHour = 10
	}
	if n := p.SuspendPerHour; n < 1 || n > maxSuspendPerHour {
		problem("suspend_per_hour", "%d is not between 1 and %d; to suspend nobody, set dry_run", n, maxSuspendPerHour)
	}
	if p.Keep == 0 {
		p.Keep = 90 * 24 * time.Hour
	}
	if p.Keep < minKeep || p.Keep > maxKeep {
		problem("keep", "%s is not between %s and %s", p.Keep, minKeep, maxKeep)
	}
	exempt := func(setting string, names []string) {
		if len(names) > MaxExempt {
			problem(setting, "there are %d, at most %d are expected", len(names), MaxExempt)
		}
		if i := slices.Index(names, ""); i >= 0 {
			problem(fmt.Sprintf("%s[%d]", setting, i), "it is empty")
		}
	}
	exempt("exempt_users", p.ExemptUsers)
	exempt("exempt_clients", p.ExemptClients)
	if len(p.Rules) > MaxRules {
		problem("rules", "there are %d, at most %d are expected", len(p.Rules), MaxRules)
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		at := fmt.Sprintf("rules[%d].", i)
		r.problems(func(setting, format string, args ...any) { problem(at+setting, format, args...) })
		exempt(at+"exempt_users", r.ExemptUsers)
		if names[r.Name] && r.Name != "" {
			problem(at+"name", "another rule is named %s, too", r.Name)
		}
		names[r.Name] = true
		if r.Within <= maxWithin && p.Keep >= minKeep && p.Keep < 2*r.Within {
			problem("keep", "%s is less than twice the within of the rule %s", p.Keep, r.Name)
		}
	}
	return list
}

// problems fills in the rule's defaults and tells its own mistakes.
func (r *Rule) problems(problem func(setting, format string, args ...any)) {
	if r.ResourceServers == 0 {
		r.ResourceServers = 1
	}
	if r.Name == "" || len(r.Name) > maxName || strings.ContainsFunc(r.Name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
	}) {
		problem("name", "%.80q is no name of 1 to %d letters, digits and ._-", r.Name, maxName)
	}
	if r.Kind != "" && r.Kind != reports.Limit && r.Kind != reports.Judgement {
		problem("kind", "%.80q is neither limit nor judgement; leave it away for both", r.Kind)
	}
	if r.Reason != "" && !reports.ValidReason(r.Reason) {
		problem("reason", "%.80q is no reason that an API can report: 64 characters of ASCII at most, without quotes and backslashes", r.Reason)
	}
	if r.Count < 1 || r.Count > reports.MaxCount {
		problem("count", "%d is not between 1 and %d", r.Count, reports.MaxCount)
	}
	if r.Within < minWithin || r.Within > maxWithin {
		problem("within", "%s is not between %s and %s", r.Within, minWithin, maxWithin)
	}
	if r.ResourceServers < 1 || r.ResourceServers > MaxResourceServers {
		problem("resource_servers", "%d is not between 1 and %d", r.ResourceServers, MaxResourceServers)
	}
	if r.Action.harshness() == 0 {
		problem("action", "%.80q is none of tell, throttle, login, suspend", r.Action)
		return
	}
	switch {
	case r.For != 0 && !r.Action.lasts():
		problem("for", "what the action %s does has no length; it is for throttle and suspend", r.Action)
	case r.For != 0 && (r.For < minFor || r.For > maxFor):
		problem("for", "%s is not between %s and %s; leave it away to let it last until somebody lifts it", r.For, minFor, maxFor)
	}
	switch {
	case r.Action != Throttle && r.Every != 0:
		problem("every", "it is for the action throttle, not for %s", r.Action)
	case r.Action == Throttle && (r.Every < minEvery || r.Every > maxEvery):
		problem("every", "%s is not between %s and %s: how much time there is to be between two logins, and two refreshes", r.Every, minEvery, maxEvery)
	case r.Action == Throttle && r.For >= minFor && r.For < r.Every:
		problem("every", "%s is longer than the throttle lasts: %s", r.Every, r.For)
	}
}

// matches reports whether a report counts for the rule.
func (r *Rule) matches(one *reports.Report) bool {
	return (r.Kind == "" || r.Kind == one.Kind) && (r.Reason == "" || r.Reason == one.Reason)
}

// until is when what the rule does at now ends by itself; zero is never.
func (r *Rule) until(now time.Time) time.Time {
	if r.For == 0 || !r.Action.lasts() {
		return time.Time{}
	}
	return now.Add(r.For)
}

// rule returns the rule of that name, or nil.
func (p *Policy) rule(name string) *Rule {
	for i := range p.Rules {
		if p.Rules[i].Name == name {
			return &p.Rules[i]
		}
	}
	return nil
}

// exempt reports whether nothing is done to u by r.
func (p *Policy) exempt(u *storage.User, r *Rule) bool {
	for _, list := range [][]string{p.ExemptUsers, r.ExemptUsers} {
		if slices.Contains(list, string(u.ID)) || u.Name != "" && slices.Contains(list, u.Name) {
			return true
		}
	}
	return false
}
