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
)

// What is measured in this process, without the network: what signatures and
// the verifier themselves cost.

// here is the trial in this very process: one worker per core, among whom the
// tokens are dealt anew.
func (r *trial) here() *trial {
	here := *r
	here.workers = min(r.workers, runtime.GOMAXPROCS(0))
	here.tokens = deal(r.tokens, here.workers)
	here.boundTokens = deal(r.boundTokens, here.workers)
	return &here
}

// deal gives what the lists hold to n workers.
func deal[T any](lists [][]T, n int) [][]T {
	dealt := make([][]T, n)
	for i, one := range slices.Concat(lists...) {
		dealt[i%n] = append(dealt[i%n], one)
	}
	return dealt
}

// raw measures op in this process.
func (r *trial) raw(ctx context.Context, op func(*worker) error) result {
	got := r.load(ctx, endpoint{pid: os.Getpid()}, op)
	got.inside = true
	return got
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

func (r *trial) middlewareNew(ctx context.Context) result {
	here := r.here()
	return here.raw(ctx, unseen(here.tokens, here.asBearer(here.middleware())))
}

func (r *trial) middlewareSeen(ctx context.Context) result {
	here := r.here()
	return here.raw(ctx, here.seen(here.asBearer(here.middleware())))
}

// shown is what a request shows: its Authorization field and its proof, which
// may be empty.
type shown struct{ authorization, proof string }

// middleware returns an operation that sends one request through the verifier.
func (r *trial) middleware() func(*worker, shown) error {
	writers := make([]nowhere, r.workers)
	requests := make([]*http.Request, r.workers)
	for i := range requests {
		writers[i].header = http.Header{}
		requests[i] = &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{"Authorization": {""}}}
	}
	return func(w *worker, s shown) error {
		to, request := &writers[w.number], requests[w.number]
		request.Header["Authorization"][0] = s.authorization
		if s.proof != "" {
			request.Header["Dpop"] = []string{s.proof}
		}
		to.status = http.StatusOK
		r.protected.ServeHTTP(to, request)
		return expect(response{status: to.status}, nil, 200)
	}
}

func (r *trial) asBearer(op func(*worker, shown) error) func(*worker, held) error {
	return func(w *worker, token held) error { return op(w, shown{authorization: "Bearer " + token.token}) }
}

// nowhere is a ResponseWriter that keeps the status alone.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(status int)      { n.status = status }
