package verify

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/solegate/solegate/keys/verify/reports"
)

// Reports makes the API tell the issuer which accounts exceed its limits,
// and those that it reports by itself. The zero value is good. It needs
// Config.Credential.
type Reports struct {
	// Address says where a request comes from, for the evidence; nil means
	// r.RemoteAddr. Behind a proxy that is the proxy's: return what your proxy
	// has written, such as the last one in X-Forwarded-For, and nothing that a
	// caller can write. The zero Addr means that it is not known.
	Address func(r *http.Request) netip.Addr
}

// Bounds of reporting.
const (
	reportEvery   = time.Second            // or as soon as a batch is full
	reportTimeout = 10 * time.Second       // of one try
	reportGrace   = 15 * time.Second       // after the end of New's context, or Close
	reportHurry   = 100 * time.Millisecond // instead of reportEvery then
	maxWaiting    = 10_000                 // accounts with reports that are not sent yet
)

// Report tells the issuer that the account of this request misuses the API, in
// the API's own judgement. The reason is one of a few fixed words of yours, such
// as "scraping", by which the issuer counts and decides: 64 characters of ASCII
// at most, what is more is cut and what is else becomes a question mark. ctx is
// the request's, behind Require; Report panics for another.
//
// It returns at once, whatever the issuer does. Without Config.Reports it does
// nothing, and the log says so once.
func (v *Verifier) Report(ctx context.Context, reason string) {
	p, _ := ctx.Value(contextKey{}).(passed)
	if p.token == nil {
		panic("verify: Report belongs behind Require: there is no token")
	}
	if v.reports == nil {
		v.unsent.Do(func() {
			v.config.Log.Warn("an account was reported, and nothing is sent to the issuer: set Config.Reports", "reason", word(reason))
		})
		return
	}
	v.reports.add(p.token, p.request, reports.Judgement, word(reason))
}

// word makes a reason one that can be sent.
func word(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, reason[:min(len(reason), 64)])
	if reason == "" {
		return "?"
	}
	return reason
}

// ReportStats counts reports, each call of Report and each request beyond a
// limit as one, since the Verifier began.
type ReportStats struct {
	Sent    uint64 // the issuer has them
	Waiting uint64 // to be sent
	Dropped uint64 // never sent: too many were waiting, or the API was closed
	Failed  uint64 // given up: the issuer refused them, or could not be reached for ten minutes
}

// ReportStats counts reports, for an API's metrics.
func (v *Verifier) ReportStats() ReportStats {
	if v.reports == nil {
		return ReportStats{}
	}
	v.reports.mu.Lock()
	defer v.reports.mu.Unlock()
	return v.reports.stats
}

// Close sends what reports are waiting and ends reporting. Call it when the
// HTTP server has shut down. It returns an error if some could not be sent
// before ctx ended or fifteen seconds were over. Nothing else ends with it: that
// does with New's context. After the end of that, too, reports are still sent
// for fifteen seconds, if the process lives so long.
func (v *Verifier) Close(ctx context.Context) error {
	if v.reports == nil {
		return nil
	}
	return v.reports.close(ctx)
}

// about is what reports are added up by.
type about struct {
	subject, client, session, key string
	kind                          reports.Kind
	reason                        string
}

// reporter keeps reports and sends them. Its methods that requests call never
// wait for the network.
type reporter struct {
	config  *Config
	client  http.Client
	work    context.Context // ends when there is no time left to send
	stop    context.CancelFunc
	full    chan struct{} // has one when a batch is full
	hurried chan struct{} // closed when New's context ends, or by close
	ending  chan struct{} // closed by close
	ended   chan struct{} // closed when run has ended
	failing bool          // the last try failed; run's own

	mu      sync.Mutex // guards what follows
	grace   *time.Timer
	waiting map[about]*reports.Report
	order   []about // of waiting, the oldest first
	stats   ReportStats
	crowded bool   // reports were dropped since the last batch arrived
	closed  bool   // nobody sends any more
	left    uint64 // what could not be sent before it was closed

	closing sync.Once
}

func newReporter(ctx context.Context, c *Config) *reporter {
	q := &reporter{
		config: c, client: *c.Client, waiting: map[about]*reports.Report{},
		full: make(chan struct{}, 1), hurried: make(chan struct{}), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	// The body would go wherever a redirect says.
	q.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	q.work, q.stop = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, q.hurry)
	return q
}

// hurry gives what is waiting a last time to be sent.
func (q *reporter) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.grace == nil {
		close(q.hurried)
		q.grace = time.AfterFunc(reportGrace, q.stop)
	} else {
		q.grace.Reset(reportGrace)
	}
}

// add adds one report. Of a nil reporter, and without a request's address, it
// does what it can.
func (q *reporter) add(t *Token, r *http.Request, kind reports.Kind, reason string) {
	if q == nil {
		return
	}
	address := q.address(r)
	now := q.config.Now().Truncate(time.Second)
	key := about{t.Subject, t.ClientID, t.SessionID, t.JKT, kind, reason}
	q.mu.Lock()
	defer q.mu.Unlock()
	report := q.waiting[key]
	if report == nil {
		// Copies: the token's are parts of a longer text, which would stay.
		key = about{strings.Clone(t.Subject), strings.Clone(t.ClientID), strings.Clone(t.SessionID), strings.Clone(t.JKT), kind, strings.Clone(reason)}
		report = &reports.Report{Subject: key.subject, Client: key.client, Session: key.session, Key: key.key, Kind: kind, Reason: key.reason, First: now, Last: now, Count: 1}
		if q.closed || report.Valid() != nil { // one that the server would refuse, with all that are in its batch
			q.stats.Dropped++
			return
		}
		report.Count = 0
		if len(q.order) == maxWaiting {
			q.drop()
		}
		q.waiting[key] = report
		q.order = append(q.order, key)
		if len(q.order) == reports.MaxReports {
			select {
			case q.full <- struct{}{}:
			default:
			}
		}
	}
	if report.Count == reports.MaxCount {
		q.stats.Dropped++
		return
	}
	report.Count++
	q.stats.Waiting++
	if now.Before(report.First) {
		report.First = now
	}
	if now.After(report.Last) {
		report.Last = now
	}
	if !address.IsValid() || len(report.Addresses) == reports.MaxAddresses {
		return
	}
	for _, before := range report.Addresses {
		if before == address {
			return
		}
	}
	report.Addresses = append(report.Addresses, address)
}

// drop drops the oldest reports: those of one account. mu is held.
func (q *reporter) drop() {
	n := uint64(q.waiting[q.order[0]].Count)
	delete(q.waiting, q.order[0])
	q.order = q.order[1:]
	q.stats.Waiting -= n
	q.stats.Dropped += n
	if !q.crowded {
		q.crowded = true
		q.config.Log.Warn("reports are dropped: too many accounts were reported since the issuer last took some", "accounts", maxWaiting)
	}
}

// address is where a request came from, in its usual spelling.
func (q *reporter) address(r *http.Request) (a netip.Addr) {
	if r == nil {
		return a
	}
	if own := q.config.Reports.Address; own != nil {
		a = own(r)
	} else if both, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		a = both.Addr()
	}
	return a.Unmap().WithZone("")
}

// take takes the oldest reports for a batch; nil if there are none.
func (q *reporter) take() []reports.Report {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []reports.Report
	for len(q.order) > 0 && len(list) < reports.MaxReports {
		list = append(list, *q.waiting[q.order[0]])
		delete(q.waiting, q.order[0])
		q.order = q.order[1:]
	}
	if len(q.order) == 0 {
		q.order = nil // the array that was walked through
	}
	return list
}

// close ends reporting and waits until all is sent, or ctx ends.
func (q *reporter) close(ctx context.Context) error {
	q.closing.Do(func() {
		q.hurry()
		close(q.ending)
	})
	select {
	case <-q.ended:
	case <-ctx.Done():
		q.stop() // and don't wait: Credential.Key may hang
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if left := q.left + q.stats.Waiting; left > 0 {
		return fmt.Errorf("verify: %d reports could not be sent to the issuer before the end", left)
	}
	return nil
}
