package abuse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// believed returns the reports of an account that concern the resource server,
// and those that don't: an API's credential must not get at people who never
// used that API. A report does if the account has, or had until a while ago, a
// grant for its audience by the app and in the login that it names.
func (j *Judge) believed(ctx context.Context, rs clients.ResourceServer, id storage.UserID, list []reports.Report) (yes, no []reports.Report, err error) {
	type way struct{ client, session string }
	known := map[way]bool{}
	for _, r := range list {
		w := way{r.Client, r.Session}
		good, ok := known[w]
		if !ok {
			if good, err = j.granted(ctx, rs.Audience, id, clients.ID(r.Client), storage.SessionID(r.Session)); err != nil {
				return nil, nil, fmt.Errorf("read the grants: %w", err)
			}
			known[w] = good
		}
		if good {
			yes = append(yes, r)
		} else {
			no = append(no, r)
		}
	}
	return yes, no, nil
}

// maxPages bounds how many grants of one account are looked through, a thousand
// on each page.
const maxPages = 10

// granted reports whether the account has a grant for the audience, dead or not,
// as long as the store knows it, or more grants than can be looked through.
func (j *Judge) granted(ctx context.Context, audience string, id storage.UserID, client clients.ID, session storage.SessionID) (bool, error) {
	// Those of a session are together, after its own identifier.
	p := storage.Page{After: string(session), Limit: 1000}
	for range maxPages {
		list, err := j.Store.ListGrants(ctx, id, p)
		if err != nil {
			return false, err
		}
		for _, g := range list {
			if session != "" && g.Session != session {
				return false, nil
			}
			if g.Client == client && slices.Contains(g.Resource, audience) {
				return true, nil
			}
		}
		if len(list) < p.Limit {
			return false, nil
		}
		p.After = string(list[len(list)-1].ID)
	}
	return true, nil // nobody hides one grant behind ten thousand
}

// machines takes reports of a subject that is no account. A backend that asks
// for itself (client_credentials) is the subject of its tokens: an operator is
// told of it. Everything else is doubtful.
func (j *Judge) machines(ctx context.Context, rs clients.ResourceServer, list []reports.Report) (doubts []reports.Report, err error) {
	for _, r := range list {
		known := false
		if r.Subject == r.Client && r.Session == "" {
			c, err := j.Store.Client(ctx, clients.ID(r.Client))
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, fmt.Errorf("read the client: %w", err)
			}
			known = err == nil && slices.Contains(c.Audiences, rs.Audience)
		}
		if !known {
			doubts = append(doubts, r)
		} else if _, ok := j.told.tell("client "+string(rs.ID)+" "+r.Client, time.Hour, 1, j.Now()); ok {
			j.Audit.Record(ctx, reported("client reported", rs.ID, &r))
		}
	}
	return doubts, nil
}

// doubt writes down what was not believed, a line a minute for a resource server
// that says nothing else.
func (j *Judge) doubt(ctx context.Context, rs clients.ResourceServer, list []reports.Report) {
	n, ok := j.told.tell("doubt "+string(rs.ID), time.Minute, len(list), j.Now())
	if !ok {
		return
	}
	e := reported("report not believed", rs.ID, &list[0])
	e.Count = n
	e.Reason = fmt.Sprintf("the account has no grant for %s by this client in this session; it said %s", rs.Audience, e.Reason)
	j.Audit.Record(ctx, e)
}

// opened writes down that an account is reported that was not before, or not
// since its case was dismissed. What follows is in the case.
func (j *Judge) opened(ctx context.Context, id storage.UserID, in *incoming) {
	e := reported("account reported", in.from, &in.reports[0])
	e.User = id
	j.Audit.Record(ctx, e)
}

// reported is a report as the audit log has it.
func reported(what string, rs clients.ID, r *reports.Report) audit.Event {
	e := audit.Event{
		What: what, ResourceServer: rs,
		Client: clients.ID(r.Client), User: storage.UserID(r.Subject), Session: storage.SessionID(r.Session), JKT: r.Key,
		Reason: fmt.Sprintf("%s: %s, %d times from %s to %s", r.Kind, r.Reason, r.Count, r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339)),
	}
	if len(r.Addresses) > 0 {
		e.Address, e.OtherAddresses = r.Addresses[0], r.Addresses[1:]
	}
	return e
}

// capReached says that no more are suspended, once an hour.
func (j *Judge) capReached(wait time.Duration) {
	if n, ok := j.told.tell("cap", time.Hour, 1, j.Now()); ok {
		j.Log.Warn("the policy has suspended as many accounts as it may in an hour, and withholds what more it decides: look at solegate abuse list, and raise abuse.suspend_per_hour if they are rightly suspended",
			"suspend_per_hour", j.Policy.SuspendPerHour, "withheld", n, "again_in", wait.Round(time.Second))
	}
}

// told is what was said a while ago and need not be said again.
type told struct {
	mu   sync.Mutex
	last map[string]saying
}

type saying struct {
	at    time.Time
	until time.Time
	n     int // since then
}

// maxTold bounds what is remembered; beyond it the rest is not said.
const maxTold = 4096

// tell reports whether it is time to say something again, at most once in each
// every, and how many there were since it was last said, these n among them.
func (t *told) tell(what string, every time.Duration, n int, now time.Time) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.last[what]
	if ok && now.Before(s.until) && !now.Before(s.at) {
		s.n += n
		t.last[what] = s
		return 0, false
	}
	if !ok && len(t.last) >= maxTold {
		for key, s := range t.last {
			if !now.Before(s.until) {
				delete(t.last, key)
			}
		}
		if len(t.last) >= maxTold {
			return 0, false
		}
	}
	if t.last == nil {
		t.last = map[string]saying{}
	}
	t.last[what] = saying{at: now, until: now.Add(every)}
	return s.n + n, true
}
