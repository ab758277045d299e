package main

import (
	"context"
	"fmt"
	"time"
)

// The scenarios with DPoP (RFC 9449): tokens that are bound to a key, and a
// fresh proof with each request. An SPA's own key signs in the SPA's own time,
// so the proofs are made before the measurement, as many as it will need.

// maxProofs bounds the proofs that are made for a measurement, of half a
// kilobyte each. The verifier has room for more, so it forgets none.
const maxProofs = 100_000

// proofPace is how many proofs a second are made for the verifier, which is
// more than two cores check.
const proofPace = 25_000

// exchangeBound redeems codes with proofs, which binds the families. The codes
// are got, and the proofs made, before it is measured.
func (r *trial) exchangeBound(ctx context.Context) result {
	clear(r.codes) // what was left is too old
	if got := r.authorize(ctx); got.errors > 0 {
		return unprepared(fmt.Errorf("no codes to redeem: %w", got.first))
	}
	keys := make([][]*dpopKey, r.workers)
	for i := range keys {
		for range min(len(r.codes[i]), max(1, r.keep/r.workers)) {
			k, err := newDPoPKey()
			if err != nil {
				return unprepared(err)
			}
			keys[i] = append(keys[i], k)
		}
	}
	p, err := r.ahead(keys, func(worker int) int { return len(r.codes[worker]) })
	if err != nil {
		return unprepared(err)
	}
	turns := make([]int, r.workers)
	got := r.redeem(ctx, r.boundFamilies, func(worker int) (string, *dpopKey, error) {
		k := keys[worker][turns[worker]%len(keys[worker])]
		turns[worker]++
		proof, err := p.next(worker, k)
		return proof, k, err
	})
	got.late = p.late()
	return got
}

// refreshBound is refresh, for families that are bound to a key each.
func (r *trial) refreshBound(ctx context.Context) result {
	r.retain(r.boundFamilies)
	keys := make([][]*dpopKey, r.workers)
	for i, families := range r.boundFamilies {
		for _, f := range families {
			keys[i] = append(keys[i], f.key)
		}
	}
	// As many as without proofs, and some more: workers are not equally fast.
	n := float64(r.limit.operations)
	if n == 0 {
		n = r.pace * r.limit.duration.Seconds()
	}
	p, err := r.ahead(keys, func(int) int { return int(1.25*n)/r.workers + 1 })
	if err != nil {
		return unprepared(err)
	}
	got := r.rotate(ctx, r.boundFamilies, r.boundTokens, p.next)
	got.late = p.late()
	return got
}

// ahead makes proofs for the token endpoint: n for each worker, by its keys in
// turn.
func (r *trial) ahead(keys [][]*dpopKey, n func(worker int) int) (*proofs, error) {
	p := &proofs{method: "POST", uri: "http://" + r.server.address + "/token", now: r.now, ready: make([][]proof, len(keys)), signed: make([]int, len(keys))}
	err := each(len(keys), len(keys), func(i int) error {
		if len(keys[i]) == 0 {
			return nil
		}
		p.ready[i] = make([]proof, min(n(i), maxProofs/len(keys)+1))
		for j := range p.ready[i] {
			made, err := p.sign(keys[i][j%len(keys[i])])
			if err != nil {
				return err
			}
			p.ready[i][j] = made
		}
		return nil
	})
	return p, err
}

// middlewareBoundNew is a request with a token that the verifier hasn't seen,
// and its proof: two signatures to check.
func (r *trial) middlewareBoundNew(ctx context.Context) result {
	here := r.here()
	requests, err := here.proved(func(worker int) int { return len(here.boundTokens[worker]) }, func(tokens []held, i int) held { return tokens[i] })
	if err != nil {
		return unprepared(err)
	}
	return here.raw(ctx, unseen(requests, here.middleware()))
}

// middlewareBoundSeen is one token per worker that the verifier has seen, with
// a new proof each time: one signature to check.
func (r *trial) middlewareBoundSeen(ctx context.Context) result {
	here := r.here()
	n := float64(here.limit.operations)
	if n == 0 {
		n = proofPace * here.limit.duration.Seconds()
	}
	requests, err := here.proved(func(int) int { return int(min(n, maxProofs))/here.workers + 1 }, func(tokens []held, _ int) held { return tokens[len(tokens)-1] })
	if err != nil {
		return unprepared(err)
	}
	return here.raw(ctx, unseen(requests, here.middleware()))
}

// proved makes requests with proofs for the API: n for each worker that has
// tokens, with the one of them that pick takes for the i-th.
func (r *trial) proved(n func(worker int) int, pick func(tokens []held, i int) held) ([][]shown, error) {
	requests := make([][]shown, r.workers)
	err := each(r.workers, r.workers, func(worker int) error {
		tokens := r.boundTokens[worker]
		if len(tokens) == 0 {
			return nil
		}
		for i := range n(worker) {
			t := pick(tokens, i)
			proof, err := t.key.prove("GET", audience+"/", t.token, r.now())
			if err != nil {
				return err
			}
			requests[worker] = append(requests[worker], shown{"DPoP " + t.token, proof})
		}
		return nil
	})
	return requests, err
}

// unprepared is the result of a scenario that could not begin.
func unprepared(err error) result { return result{errors: 1, first: err} }

// freshness is how old a proof may be when it is sent: the server accepts it
// for 60 seconds.
const freshness = 45 * time.Second

// proofs are made for one endpoint, by worker in the order of their use.
type proofs struct {
	method, uri string
	now         func() time.Time
	ready       [][]proof
	signed      []int // by worker: how many were made when they were needed
}

type proof struct {
	text string
	key  *dpopKey
	made time.Time
}

func (p *proofs) sign(k *dpopKey) (proof, error) {
	made := p.now()
	text, err := k.prove(p.method, p.uri, "", made)
	return proof{text, k, made}, err
}

// next returns the worker's next proof, by the key. It signs one if there is
// none, or none that is by the key and fresh.
func (p *proofs) next(worker int, k *dpopKey) (string, error) {
	if ready := p.ready[worker]; len(ready) > 0 {
		p.ready[worker] = ready[1:]
		if first := ready[0]; first.key == k && p.now().Sub(first.made) < freshness {
			return first.text, nil
		}
	}
	p.signed[worker]++
	made, err := p.sign(k)
	return made.text, err
}

// late is how many were signed during the measurement.
func (p *proofs) late() int {
	n := 0
	for _, signed := range p.signed {
		n += signed
	}
	return n
}
