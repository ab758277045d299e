package main

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// burden is the load that the replicas carry while people are blocked: the
// first person's grants are refreshed at each server, and their access tokens
// are used at each API.
type burden struct {
	r        *replicas
	o        options
	families [][]held                   // by worker
	tokens   [][]atomic.Pointer[string] // the access token that each family has now
}

// newBurden gets the grants, for as many workers at each server as at each API.
func newBurden(ctx context.Context, r *replicas, o options) (*burden, error) {
	each := o
	each.workers = o.workers * o.servers
	each.requests, each.grants = max(o.grants, each.workers), max(o.grants, each.workers)
	t := newTrial(r.target, each)
	for _, get := range []func(*trial, context.Context) result{(*trial).authorize, (*trial).exchange} {
		if got := get(t, ctx); got.errors > 0 {
			return nil, fmt.Errorf("no grants to begin with: %w", got.first)
		}
	}
	t.retain(t.families)
	b := &burden{r: r, o: o, families: t.families, tokens: make([][]atomic.Pointer[string], each.workers)}
	fixed := refreshing(r.clientID)
	for i, families := range b.families {
		b.tokens[i] = make([]atomic.Pointer[string], len(families))
		c := newConn(r.server.address)
		form := newPost(r.server.address, "/token", origin)
		for j := range families {
			if err := b.refresh(c, form, fixed, i, j); err != nil {
				return nil, fmt.Errorf("no access tokens to begin with: %w", err)
			}
		}
		c.close()
	}
	return b, nil
}

// refreshing is the form of a refresh, but for the token at its end.
func refreshing(clientID string) string {
	return "grant_type=refresh_token&client_id=" + url.QueryEscape(clientID) + "&refresh_token="
}

// refresh refreshes a worker's family.
func (b *burden) refresh(c *conn, form *post, fixed string, worker, family int) error {
	held := &b.families[worker][family]
	resp, err := c.do(form.with("", fixed, held.token))
	if err := expect(resp, err, 200); err != nil {
		return err
	}
	held.token = member(resp.body, "refresh_token")
	access := member(resp.body, "access_token")
	b.tokens[worker][family].Store(&access)
	return nil
}

// carried is the load that was carried, added up over the servers, and over the
// APIs.
type carried struct{ refreshes, calls result }

// carry loads the replicas until ctx ends.
func (b *burden) carry(ctx context.Context) carried {
	servers, apis := make([]result, len(b.r.servers)), make([]result, len(b.r.apis))
	var work sync.WaitGroup
	for i, server := range b.r.servers {
		work.Go(func() { servers[i] = b.refreshAt(ctx, i, server) })
	}
	for i, api := range b.r.apis {
		work.Go(func() { apis[i] = b.callAt(ctx, api) })
	}
	work.Wait()
	return carried{sum("refresh with rotation", servers), sum("request at an API", apis)}
}

// at is how often each of the workers at one replica does something, for so
// many of it a second.
func (b *burden) at(rate int) limit {
	return limit{duration: forever, every: time.Duration(b.o.workers) * time.Second / time.Duration(rate)}
}

// forever is longer than any measurement.
const forever = 24 * time.Hour

// refreshAt refreshes at a server, whose workers have families of their own.
func (b *burden) refreshAt(ctx context.Context, number int, server endpoint) result {
	fixed := refreshing(b.r.clientID)
	forms := make([]*post, b.o.workers)
	for i := range forms {
		forms[i] = newPost(server.address, "/token", origin)
	}
	turns := make([]int, b.o.workers)
	return load(ctx, b.o.workers, b.at(b.o.refreshes), server.address, func(w *worker) error {
		all := number*b.o.workers + w.number
		if len(b.families[all]) == 0 {
			return errDry
		}
		turn := turns[w.number]
		turns[w.number] = (turn + 1) % len(b.families[all])
		return b.refresh(w.conn, forms[w.number], fixed, all, turn)
	})
}

// callAt calls an API with the access tokens that there are, in turn: those
// that were refreshed since are new to it.
func (b *burden) callAt(ctx context.Context, api endpoint) result {
	var all []*atomic.Pointer[string]
	for i := range b.tokens {
		for j := range b.tokens[i] {
			all = append(all, &b.tokens[i][j])
		}
	}
	var turn atomic.Int64
	return load(ctx, b.o.workers, b.at(b.o.calls), api.address, func(w *worker) error {
		token := *all[int(turn.Add(1))%len(all)].Load()
		resp, err := w.conn.do(get(api.address, "/", "Authorization: Bearer "+token+"\r\n"))
		return expect(resp, err, 200)
	})
}

// sum adds up what was measured at the same time.
func sum(name string, parts []result) result {
	all := result{name: name}
	for i := range parts {
		p := &parts[i]
		all.operations += p.operations
		all.errors += p.errors
		all.elapsed = max(all.elapsed, p.elapsed)
		all.latency.merge(&p.latency)
		if all.first == nil {
			all.first = p.first
		}
	}
	return all
}
