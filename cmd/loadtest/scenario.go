package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// target is all that the scenarios know of what they measure.
type target struct {
	server, bare, api endpoint
	storePID          int          // of the Redis; 0: none
	protected         http.Handler // the API's handler, in this process
	clientID          string
	person            person
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

	codes    [][]string // by worker
	families [][]string // refresh tokens, by worker
	tokens   [][]string // Authorization header fields with access tokens, by worker
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
	{"refresh with rotation", aim{share: 0.09, p99: 20 * time.Millisecond, cpu: 180 * time.Microsecond}, (*trial).refresh},
	{"middleware, new token", aim{raw: 1.15}, (*trial).middlewareNew},
	{"middleware, seen token", aim{}, (*trial).middlewareSeen},
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
		target: t, workers: o.workers, limit: limit{o.requests, o.duration}, keep: o.grants,
		codes: make([][]string, o.workers), families: make([][]string, o.workers), tokens: make([][]string, o.workers),
	}
}

// load measures op on an endpoint, with the CPU time of its process.
func (r *trial) load(ctx context.Context, e endpoint, op func(*worker) error) result {
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
	posts := r.posts()
	fixed := "grant_type=authorization_code&client_id=" + url.QueryEscape(r.clientID) +
		"&redirect_uri=" + url.QueryEscape(spaRedirect) + "&code_verifier=" + r.person.verifier + "&code="
	return r.load(ctx, r.server, func(w *worker) error {
		c, err := take(&r.codes[w.number])
		if err != nil {
			return err
		}
		resp, err := w.conn.do(posts[w.number].with(fixed, c))
		if err := expect(resp, err, 200); err != nil {
			return err
		}
		r.families[w.number] = append(r.families[w.number], member(resp.body, "refresh_token"))
		return nil
	})
}

// refresh rotates: the grants of a worker take turns, as people do.
func (r *trial) refresh(ctx context.Context) result {
	for i := range r.families {
		r.families[i] = r.families[i][:min(len(r.families[i]), max(1, r.keep/r.workers))]
	}
	posts := r.posts()
	turns := make([]int, r.workers)
	fixed := "grant_type=refresh_token&client_id=" + url.QueryEscape(r.clientID) + "&refresh_token="
	return r.load(ctx, r.server, func(w *worker) error {
		family := r.families[w.number]
		if len(family) == 0 {
			return errDry
		}
		turn := &turns[w.number]
		*turn = (*turn + 1) % len(family)
		resp, err := w.conn.do(posts[w.number].with(fixed, family[*turn]))
		if err := expect(resp, err, 200); err != nil {
			return err
		}
		family[*turn] = member(resp.body, "refresh_token")
		if len(r.tokens[w.number]) < maxTokens/r.workers {
			r.tokens[w.number] = append(r.tokens[w.number], "Bearer "+member(resp.body, "access_token"))
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

// unseen returns an operation on tokens, each worker's own, each once, until
// there are no more.
func (r *trial) unseen(op func(w *worker, token string) error) func(*worker) error {
	next := make([]int, r.workers)
	return func(w *worker) error {
		tokens := r.tokens[w.number]
		if next[w.number] == len(tokens) {
			return errDry
		}
		token := tokens[next[w.number]]
		next[w.number]++
		return op(w, token)
	}
}

// seen returns an operation on one token per worker, again and again: the last
// one, which the verifier has not forgotten.
func (r *trial) seen(op func(w *worker, token string) error) func(*worker) error {
	return func(w *worker) error {
		tokens := r.tokens[w.number]
		if len(tokens) == 0 {
			return errDry
		}
		return op(w, tokens[len(tokens)-1])
	}
}

func (r *trial) apiNew(ctx context.Context) result { return r.load(ctx, r.api, r.unseen(r.callAPI)) }

func (r *trial) apiSeen(ctx context.Context) result { return r.load(ctx, r.api, r.seen(r.callAPI)) }

func (r *trial) callAPI(w *worker, token string) error {
	resp, err := w.conn.do(get(r.api.address, "/", "Authorization: "+token+"\r\n"))
	return expect(resp, err, 200)
}

// The middleware in this process, without the network: what verification
// itself costs.
func (r *trial) middlewareNew(ctx context.Context) result {
	return r.raw(ctx, r.unseen(r.middleware()))
}

func (r *trial) middlewareSeen(ctx context.Context) result { return r.raw(ctx, r.seen(r.middleware())) }

func (r *trial) middleware() func(w *worker, token string) error {
	writers := make([]nowhere, r.workers)
	requests := make([]*http.Request, r.workers)
	for i := range requests {
		writers[i].header = http.Header{}
		requests[i] = &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{"Authorization": {""}}}
	}
	return func(w *worker, token string) error {
		to, request := &writers[w.number], requests[w.number]
		request.Header["Authorization"][0] = token
		to.status = http.StatusOK
		r.protected.ServeHTTP(to, request)
		return expect(response{status: to.status}, nil, 200)
	}
}

// nowhere is a ResponseWriter that keeps the status alone.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(status int)      { n.status = status }

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

// signed is what the raw signature signs: about as long as an access token.
var signed = []byte(strings.Repeat("solegate", 80))

// rawSign is what no server that signs its tokens can do without.
func (r *trial) rawSign(ctx context.Context) result {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return result{errors: 1, first: err}
	}
	return r.here().raw(ctx, func(*worker) error {
		digest := sha256.Sum256(signed)
		_, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	})
}

// rawVerify is what no API that checks signatures can do without.
func (r *trial) rawVerify(ctx context.Context) result {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return result{errors: 1, first: err}
	}
	digest := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return result{errors: 1, first: err}
	}
	return r.here().raw(ctx, func(*worker) error {
		digest := sha256.Sum256(signed)
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return errors.New("a good signature was refused")
		}
		return nil
	})
}

// here is the trial in this very process: one worker per core, among whom the
// tokens are dealt anew.
func (r *trial) here() *trial {
	here := *r
	here.workers = min(r.workers, runtime.GOMAXPROCS(0))
	here.tokens = make([][]string, here.workers)
	for i, token := range slices.Concat(r.tokens...) {
		here.tokens[i%here.workers] = append(here.tokens[i%here.workers], token)
	}
	return &here
}

// raw measures op in this process.
func (r *trial) raw(ctx context.Context, op func(*worker) error) result {
	got := r.load(ctx, endpoint{pid: os.Getpid()}, op)
	got.inside = true
	return got
}
