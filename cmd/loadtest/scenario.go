package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"time"
)

// target is all that the scenarios know of what they measure.
type target struct {
	server, bare, api endpoint
	storePID          int          // of the Redis; 0: none
	protected         http.Handler // the API's handler, in this process
	clientID          string
	person            person
	now               func() time.Time // dates DPoP proofs
}

// endpoint is a server's address and process; pid 0 if it is not to be watched.
type endpoint struct {
	address string
	pid     int
}

// aim is what a scenario should reach on two cores; a zero field is no aim.
type aim struct {
	share float64       // of the bare handler's rate
	p99   time.Duration // at most
	cpu   time.Duration // of the server, each, at most
	raw   float64       // CPU time in raw ES256 verifications, at most
}

// maxTokens bounds the access tokens that are kept for the verifier.
const maxTokens = 50_000

// trial is one run of all scenarios; each works on what the one before it left.
type trial struct {
	target
	workers int
	limit   limit
	keep    int // how many grants take turns at the refresh

	// By worker: codes, and refresh and access tokens, those that are bound to
	// a key apart.
	codes                   [][]string
	families, boundFamilies [][]held
	tokens, boundTokens     [][]held

	pace float64 // refreshes without DPoP a second
}

// held is a token, and the key that it is bound to; nil: none.
type held struct {
	token string
	key   *dpopKey
}

// scenario is a measurement by its name.
type scenario struct {
	name string
	aim  aim
	do   func(*trial, context.Context) result
}

// scenarios in their order. A code lives a minute and an access token five, so
// those who use them up stand right behind those who get them.
var scenarios = []scenario{
	{bareName, aim{}, (*trial).bareHandler},
	{signName, aim{}, (*trial).rawSign},
	{verifyName, aim{}, (*trial).rawVerify},
	{"JWKS", aim{share: 0.85}, func(r *trial, ctx context.Context) result { return r.document(ctx, "/jwks") }},
	{"discovery", aim{share: 0.85}, func(r *trial, ctx context.Context) result {
		return r.document(ctx, "/.well-known/openid-configuration")
	}},
	{"authorize, signed in", aim{}, (*trial).authorize},
	{"code exchange", aim{share: 0.06}, (*trial).exchange},
	{"code exchange with DPoP", aim{}, (*trial).exchangeBound},
	{"refresh with rotation", aim{share: 0.09, p99: 20 * time.Millisecond, cpu: 180 * time.Microsecond}, (*trial).refresh},
	{"refresh with DPoP", aim{}, (*trial).refreshBound},
	{"middleware, new token", aim{raw: 1.15}, (*trial).middlewareNew},
	{"middleware, seen token", aim{}, (*trial).middlewareSeen},
	// Two signatures: the token's and the proof's.
	{"middleware, DPoP, new token", aim{raw: 2 * 1.25}, (*trial).middlewareBoundNew},
	{"middleware, DPoP, seen token", aim{}, (*trial).middlewareBoundSeen},
	{"API, new token", aim{}, (*trial).apiNew},
	{"API, seen token", aim{}, (*trial).apiSeen},
	{bareName, aim{}, (*trial).bareHandler},
}

const (
	bareName   = "bare handler"
	signName   = "raw ES256 signature"
	verifyName = "raw ES256 verification"
)

// measureAll runs the scenarios and returns the table.
func measureAll(ctx context.Context, t target, o options, begin func(name string)) (report, error) {
	r := newTrial(t, o)
	var all report
	for _, s := range scenarios {
		begin(s.name)
		got := s.do(r, ctx)
		if ctx.Err() != nil {
			return nil, errInterrupted
		}
		got.name, got.aim = s.name, s.aim
		all = append(all, got)
	}
	return all, nil
}

var errInterrupted = errors.New("interrupted")

func newTrial(t target, o options) *trial {
	return &trial{
		target: t, workers: o.workers, limit: limit{operations: o.requests, duration: o.duration}, keep: o.grants,
		codes: make([][]string, o.workers), families: make([][]held, o.workers), boundFamilies: make([][]held, o.workers),
		tokens: make([][]held, o.workers), boundTokens: make([][]held, o.workers),
	}
}

// load measures op on an endpoint, with the CPU time of its process.
func (r *trial) load(ctx context.Context, e endpoint, op func(*worker) error) result {
	runtime.GC() // what making ready left is not the measurement's to clean up
	before, store := look(e.pid), usageOrNone(r.storePID)
	got := load(ctx, r.workers, r.limit, e.address, op)
	after := look(e.pid)
	got.cpu = after.watched - before.watched
	got.store = usageOrNone(r.storePID) - store
	got.others = max(0, (after.machine-before.machine)-(after.ours-before.ours)-got.store)
	return got
}

func (r *trial) bareHandler(ctx context.Context) result {
	request := get(r.bare.address, "/", "")
	return r.load(ctx, r.bare, func(w *worker) error {
		resp, err := w.conn.do(request)
		return expect(resp, err, 200)
	})
}

func (r *trial) document(ctx context.Context, path string) result {
	request := get(r.server.address, path, "")
	return r.load(ctx, r.server, func(w *worker) error {
		resp, err := w.conn.do(request)
		return expect(resp, err, 200)
	})
}

// authorize gets codes, for somebody who is signed in already.
func (r *trial) authorize(ctx context.Context) result {
	request := get(r.server.address, r.person.authorize, r.person.cookies)
	return r.load(ctx, r.server, func(w *worker) error {
		resp, err := w.conn.do(request)
		if err := expect(resp, err, 303); err != nil {
			return err
		}
		c, err := code(resp.location)
		if err == nil {
			r.codes[w.number] = append(r.codes[w.number], c)
		}
		return err
	})
}

// origin is what a browser adds to a request of the SPA's page.
const origin = "Origin: " + spaOrigin + "\r\n"

// exchange redeems the codes, each once, until there are no more.
func (r *trial) exchange(ctx context.Context) result {
	return r.redeem(ctx, r.families, func(int) (string, *dpopKey, error) { return "", nil, nil })
}

// redeem redeems the codes with what next gives a worker: a proof and its key,
// or nothing.
func (r *trial) redeem(ctx context.Context, families [][]held, next func(worker int) (string, *dpopKey, error)) result {
	posts := r.posts()
	fixed := redemption(r.clientID, r.person)
	return r.load(ctx, r.server, func(w *worker) error {
		c, err := take(&r.codes[w.number])
		if err != nil {
			return err
		}
		proof, key, err := next(w.number)
		if err != nil {
			return err
		}
		resp, err := w.conn.do(posts[w.number].with(proof, fixed, c))
		if err := expect(resp, err, 200); err != nil {
			return err
		}
		families[w.number] = append(families[w.number], held{member(resp.body, "refresh_token"), key})
		return nil
	})
}

// redemption is a person's form for the token endpoint, but for the code at
// its end.
func redemption(clientID string, p person) string {
	return "grant_type=authorization_code&client_id=" + url.QueryEscape(clientID) +
		"&redirect_uri=" + url.QueryEscape(spaRedirect) + "&code_verifier=" + p.verifier + "&code="
}

// refresh rotates: the grants of a worker take turns, as people do.
func (r *trial) refresh(ctx context.Context) result {
	r.retain(r.families)
	got := r.rotate(ctx, r.families, r.tokens, func(int, *dpopKey) (string, error) { return "", nil })
	r.pace = got.rate()
	return got
}

// retain drops the families of each worker that are too many to take turns.
func (r *trial) retain(families [][]held) {
	for i := range families {
		families[i] = families[i][:min(len(families[i]), max(1, r.keep/r.workers))]
	}
}

// rotate refreshes, with the proof that next gives a worker by a key, and keeps
// access tokens for the verifier.
func (r *trial) rotate(ctx context.Context, families, tokens [][]held, next func(worker int, k *dpopKey) (string, error)) result {
	posts := r.posts()
	turns := make([]int, r.workers)
	fixed := refreshing(r.clientID)
	return r.load(ctx, r.server, func(w *worker) error {
		if len(families[w.number]) == 0 {
			return errDry
		}
		family := &families[w.number][turns[w.number]]
		turns[w.number] = (turns[w.number] + 1) % len(families[w.number])
		proof, err := next(w.number, family.key)
		if err != nil {
			return err
		}
		resp, err := w.conn.do(posts[w.number].with(proof, fixed, family.token))
		if err := expect(resp, err, 200); err != nil {
			return err
		}
		family.token = member(resp.body, "refresh_token")
		if len(tokens[w.number]) < maxTokens/r.workers {
			tokens[w.number] = append(tokens[w.number], held{member(resp.body, "access_token"), family.key})
		}
		return nil
	})
}

func (r *trial) posts() []*post {
	posts := make([]*post, r.workers)
	for i := range posts {
		posts[i] = newPost(r.server.address, "/token", origin)
	}
	return posts
}

// unseen returns an operation on what the lists hold, each worker's own, each
// once, until there is no more.
func unseen[T any](lists [][]T, op func(*worker, T) error) func(*worker) error {
	next := make([]int, len(lists))
	return func(w *worker) error {
		list := lists[w.number]
		if next[w.number] == len(list) {
			return errDry
		}
		one := list[next[w.number]]
		next[w.number]++
		return op(w, one)
	}
}

// seen returns an operation on one token per worker, again and again: the last
// one, which the verifier has not forgotten.
func (r *trial) seen(op func(*worker, held) error) func(*worker) error {
	return func(w *worker) error {
		tokens := r.tokens[w.number]
		if len(tokens) == 0 {
			return errDry
		}
		return op(w, tokens[len(tokens)-1])
	}
}

func (r *trial) apiNew(ctx context.Context) result {
	return r.load(ctx, r.api, unseen(r.tokens, r.callAPI))
}

func (r *trial) apiSeen(ctx context.Context) result { return r.load(ctx, r.api, r.seen(r.callAPI)) }

func (r *trial) callAPI(w *worker, token held) error {
	resp, err := w.conn.do(get(r.api.address, "/", "Authorization: Bearer "+token.token+"\r\n"))
	return expect(resp, err, 200)
}

// take removes the last of a list.
func take(list *[]string) (string, error) {
	n := len(*list)
	if n == 0 {
		return "", errDry
	}
	last := (*list)[n-1]
	*list = (*list)[:n-1]
	return last, nil
}
