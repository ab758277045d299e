package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"
)

// target is all that the scenarios know of what they measure.
type target struct {
	server, bare, api endpoint
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
	tokens   [][]string // access tokens, by worker
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
	{newName, aim{}, (*trial).verifyNew},
	{"API, token seen before", aim{}, (*trial).verifySeen},
	{bareName, aim{}, (*trial).bareHandler},
}

const (
	bareName   = "bare handler"
	signName   = "raw ES256 signature"
	verifyName = "raw ES256 verification"
	newName    = "API, new token"
)

// measureAll runs the scenarios and returns the table.
func measureAll(ctx context.Context, t target, o options, begin func(name string)) (report, error) {
	r := newTrial(t, o)
	var all report
	for _, s := range scenarios {
		begin(s.name)
		got := s.do(r, ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("interrupted: %w", err)
		}
		got.name, got.aim = s.name, s.aim
		all = append(all, got)
	}
	return all, nil
}

func newTrial(t target, o options) *trial {
	return &trial{
		target: t, workers: o.workers, limit: limit{o.requests, o.duration}, keep: o.grants,
		codes: make([][]string, o.workers), families: make([][]string, o.workers), tokens: make([][]string, o.workers),
	}
}

// load measures op on an endpoint, with the CPU time of its process.
func (r *trial) load(ctx context.Context, e endpoint, op func(*worker) error) result {
	before, errBefore := usageOf(e.pid)
	got := load(ctx, r.workers, r.limit, e.address, op)
	after, err := usageOf(e.pid)
	if err == nil && errBefore == nil && e.pid != 0 {
		got.cpu = after.cpu - before.cpu
	}
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
			r.tokens[w.number] = append(r.tokens[w.number], bearer(member(resp.body, "access_token")))
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

func bearer(token string) string { return "Authorization: Bearer " + token + "\r\n" }

// verifyNew shows the API tokens that it has not seen, each once, until there
// are no more.
func (r *trial) verifyNew(ctx context.Context) result {
	seen := make([]int, r.workers)
	return r.load(ctx, r.api, func(w *worker) error {
		if seen[w.number] == len(r.tokens[w.number]) {
			return errDry
		}
		token := r.tokens[w.number][seen[w.number]]
		seen[w.number]++
		resp, err := w.conn.do(get(r.api.address, "/", token))
		return expect(resp, err, 200)
	})
}

// verifySeen shows the API one token per worker, again and again.
func (r *trial) verifySeen(ctx context.Context) result {
	requests := make([][]byte, r.workers)
	for i, tokens := range r.tokens {
		if len(tokens) > 0 {
			requests[i] = get(r.api.address, "/", tokens[len(tokens)-1])
		}
	}
	return r.load(ctx, r.api, func(w *worker) error {
		if requests[w.number] == nil {
			return errDry
		}
		resp, err := w.conn.do(requests[w.number])
		return expect(resp, err, 200)
	})
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

// signed is what the raw signature signs: about as long as an access token.
var signed = []byte(strings.Repeat("solegate", 80))

// rawSign is what no server that signs its tokens can do without.
func (r *trial) rawSign(ctx context.Context) result {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return result{errors: 1, first: err}
	}
	return r.raw(ctx, func(*worker) error {
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
	return r.raw(ctx, func(*worker) error {
		digest := sha256.Sum256(signed)
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return fmt.Errorf("a good signature was refused")
		}
		return nil
	})
}

// raw measures op in this very process, one worker per core.
func (r *trial) raw(ctx context.Context, op func(*worker) error) result {
	here := *r
	here.workers = runtime.GOMAXPROCS(0)
	return here.load(ctx, endpoint{pid: os.Getpid()}, op)
}
