package verify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/keys/verify/reports"
)

// By says whose requests count together.
type By int

const (
	// BySubject counts the requests of each account, whatever app it uses.
	BySubject By = iota
	// ByClient counts the requests of each client, whoever uses it: for
	// backends, which have no account.
	ByClient
	// BySubjectAndClient counts the requests of each account at each client:
	// one app that runs wild doesn't stop the person's others.
	BySubjectAndClient
)

// Limit is how much an account may ask for: so many requests in a window,
// refilled evenly, and so many at once. Requests and Window are required.
type Limit struct {
	// Name is what the limit is called in answers, reports and between
	// replicas: "default" if empty, else letters, digits, dots, hyphens and
	// underscores. Routes with limits of one name share it; each name is
	// counted by itself.
	Name string

	// Requests is how many may come in Window, in the long run: the bucket
	// gets one back every Window/Requests.
	Requests int

	// Window is in whole seconds, a day at most.
	Window time.Duration

	// Burst is how many may come at once after a rest: the size of the
	// bucket. Requests if zero.
	Burst int

	// By says whose requests count together: those of one account if zero.
	By By
}

// Bounds of a limit, so that no sum overflows.
const (
	maxRequests = 1_000_000_000
	maxWindow   = 24 * time.Hour
	maxLimit    = 64 // bytes of a name
)

// Validate returns what Limit would panic with.
func (l Limit) Validate() error { return l.complete() }

func (l *Limit) complete() error {
	if l.Name == "" {
		l.Name = "default"
	}
	if l.Burst == 0 {
		l.Burst = l.Requests
	}
	switch {
	case len(l.Name) > maxLimit || strings.ContainsFunc(l.Name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}):
		return fmt.Errorf("verify: Limit.Name is %.80q: at most %d letters, digits, dots, hyphens and underscores are expected", l.Name, maxLimit)
	case l.Requests < 1 || l.Requests > maxRequests:
		return fmt.Errorf("verify: Limit.Requests is %d: 1 to %d are expected", l.Requests, maxRequests)
	case l.Window < time.Second || l.Window > maxWindow || l.Window%time.Second != 0:
		return fmt.Errorf("verify: Limit.Window is %s: whole seconds are expected, a day at most", l.Window)
	case l.Burst < 1 || float64(l.Burst)*l.Window.Seconds()/float64(l.Requests) > maxWindow.Seconds():
		return fmt.Errorf("verify: Limit.Burst is %d: at least 1 is expected, and no more than come back in a day", l.Burst)
	case l.By != BySubject && l.By != ByClient && l.By != BySubjectAndClient:
		return fmt.Errorf("verify: Limit.By is %d: BySubject, ByClient or BySubjectAndClient is expected", l.By)
	}
	return nil
}

// Limits says how limits are kept. The zero value is good for one replica.
type Limits struct {
	// Accounts is for how many accounts at least there is room, those of all
	// limits together: 1,000,000 if zero. One takes up a place from its first
	// request until its bucket is full again. A place is 16 bytes, and there
	// are at most three for each of many accounts: 32 MiB for 1,000,000. What
	// is not needed is not allocated.
	//
	// With more accounts than that at the same time, those that find no place
	// share 1024 buckets: what they pass in sum stays bounded, and they slow
	// each other down.
	Accounts int

	// Shared lets replicas count together; nil means that each counts for
	// itself.
	Shared Shared
}

// limit is a Limit at work.
type limit struct {
	Limit
	rate
	identify
	crowd  crowd
	policy []string // RateLimit-Policy; shared by all answers
	// states are the RateLimit fields by remaining requests and seconds, each
	// written when it is first needed and shared by all answers; none if there
	// could be too many.
	states  []atomic.Pointer[[]string]
	seconds int // of states: 0 to seconds-1
}

// maxStates bounds what is kept for one limit: some 5 MB if all are needed.
const maxStates = 1 << 16

func newLimit(l Limit) *limit {
	cost := (int64(l.Window) + int64(l.Requests) - 1) / int64(l.Requests) // rounded up: never more than Requests
	x := &limit{Limit: l, rate: rate{cost, cost * int64(l.Burst)}, identify: newIdentify()}
	// draft-ietf-httpapi-ratelimit-headers-10 §3. The size of the bucket has
	// no parameter there.
	policy := `"` + l.Name + `";q=` + strconv.Itoa(l.Requests) + ";w=" + strconv.FormatInt(int64(l.Window/time.Second), 10)
	if l.Burst != l.Requests {
		policy += ";solegate-burst=" + strconv.Itoa(l.Burst)
	}
	x.policy = []string{policy}
	if seconds := ceil(cost) + 1; (l.Burst+1)*seconds <= maxStates {
		x.seconds = seconds
		x.states = make([]atomic.Pointer[[]string], (l.Burst+1)*seconds)
	}
	return x
}

// ceil is a time in whole seconds, rounded up.
func ceil(nanoseconds int64) int { return int((nanoseconds + 1e9 - 1) / 1e9) }

// format writes a RateLimit field (draft-ietf-httpapi-ratelimit-headers-10 §4).
func (l *limit) format(remaining, seconds int) []string {
	return []string{`"` + l.Name + `";r=` + strconv.Itoa(remaining) + ";t=" + strconv.Itoa(seconds)}
}

// state is what a bucket with a backlog still has, and the seconds until there
// is one more.
func (l *limit) state(backlog int64) (remaining, seconds int) {
	remaining = int(max(l.capacity-backlog, 0) / l.cost)
	return remaining, ceil(max(backlog-l.capacity+int64(remaining+1)*l.cost, 0))
}

// written returns the RateLimit field, as it was written before if it was.
func (l *limit) written(remaining, seconds int) []string {
	if seconds >= l.seconds {
		return l.format(remaining, seconds)
	}
	at := &l.states[remaining*l.seconds+seconds]
	if known := at.Load(); known != nil {
		return *known
	}
	state := l.format(remaining, seconds)
	at.Store(&state)
	return state
}

// tell puts the fields into an answer. Those of limits further outside stay.
func (l *limit) tell(h http.Header, remaining, seconds int) {
	state := l.written(remaining, seconds)
	const field, policy = "Ratelimit", "Ratelimit-Policy" // as http.Header spells them
	if len(h[field]) > 0 {
		h[field], h[policy] = append(h[field], state...), append(h[policy], l.policy...)
		return
	}
	h[field], h[policy] = state, l.policy
}

// Limit lets a request through if the account it is made for has not used up
// what l allows. Otherwise it answers 429 with Retry-After, and the account is
// reported if Config.Reports is set. Each answer tells what is left, in
// the fields RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers-10).
//
// It belongs inside of Require, and is best written as a part of it:
//
//	limit := v.Limit(verify.Limit{Requests: 600, Window: time.Minute})
//	mux.Handle("GET /orders", v.Require("orders:read")(limit(orders)))
//
// One limit around several handlers counts their requests together; limits
// inside of one another must all have something left. It panics at once if l
// can't be, or if there is another limit of the same name with other numbers;
// and for a request that did not come through Require.
func (v *Verifier) Limit(l Limit) func(http.Handler) http.Handler {
	if err := l.complete(); err != nil {
		panic(err)
	}
	x := v.limits.add(l)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _ := r.Context().Value(contextKey{}).(passed)
			t := p.token
			if t == nil {
				panic("verify: Limit belongs inside of Require: there is no token")
			}
			backlog, ok := v.limits.take(x, t, v.limits.time(p.at))
			remaining, seconds := x.state(backlog)
			x.tell(w.Header(), remaining, seconds)
			if !ok {
				v.limited(w, r, x, t, seconds)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// limited answers a request that comes too early. Retry-After is never earlier
// than the t of RateLimit (draft-ietf-httpapi-ratelimit-headers-10 §5).
func (v *Verifier) limited(w http.ResponseWriter, r *http.Request, l *limit, t *Token, seconds int) {
	v.reports.add(t, r, reports.Limit, l.Name)
	h := w.Header()
	h.Set("Retry-After", strconv.Itoa(max(seconds, 1)))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusTooManyRequests)
	json.NewEncoder(w).Encode(struct {
		Type     string   `json:"type"`
		Title    string   `json:"title"`
		Status   int      `json:"status"`
		Violated []string `json:"violated-policies"`
	}{"https://iana.org/assignments/http-problem-types#quota-exceeded", "There were too many requests; try again later.", http.StatusTooManyRequests, []string{l.Name}})
}

// LimitStats counts what limits have done, for an API's metrics.
func (v *Verifier) LimitStats() LimitStats { return v.limits.stats() }
