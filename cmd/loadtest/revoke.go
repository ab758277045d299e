package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// How people are blocked. The moments are random, so that they fall anywhere
// between two looks of whoever looks at a store from time to time.
const (
	blocksPerSecond = 20
	// atOnce bounds how many are under way.
	atOnce = 8
)

// way is how somebody is blocked.
type way int

// To start a process for each block would be a load of
// its own; where one stays, it is known when the event was lasting.
const (
	byCommand  way = iota // a process `solegate user block`
	byAPI                 // the operator's API of one of the servers
	byFunction            // what both of them call, in a process beside the servers
)

// ways are those of people one after the other.
var ways = []way{byCommand, byAPI, byFunction, byFunction}

// refusal is how long after the block of one person the APIs refused the
// person's token.
type refusal struct {
	someone
	way      way
	server   int       // whose API it was
	event    time.Time // when the event was about to be appended
	lasting  time.Time // when it was in the store; known of byFunction
	read     time.Time // when another process had read it from there
	returned time.Time // when the command, or the function, returned
	seen     []sight   // by each API
	err      error
}

// last is when the last API refused.
func (f *refusal) last() (last time.Time) {
	for _, s := range f.seen {
		if s.refused.After(last) {
			last = s.refused
		}
	}
	return last
}

// first is when the first API did.
func (f *refusal) first() (first time.Time) {
	for _, s := range f.seen {
		if first.IsZero() || s.refused.Before(first) {
			first = s.refused
		}
	}
	return first
}

// widest is the longest time between the last look at which the token passed,
// and the first at which it was refused: refused is known that well.
func (f *refusal) widest() (passed, refused time.Time) {
	for _, s := range f.seen {
		if s.refused.Sub(s.passed) > refused.Sub(passed) {
			passed, refused = s.passed, s.refused
		}
	}
	return passed, refused
}

// measureRevocations blocks people while all replicas are under load, and
// prints how soon each API refuses their tokens.
func measureRevocations(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprint(out, describeRevocations(o))
	r, err := openReplicas(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close(err != nil && ctx.Err() == nil)) }()
	if err := r.weigh(ctx, "before the load"); err != nil {
		return err
	}
	b, err := newBurden(ctx, r, o)
	if err != nil {
		return err
	}
	v := &revocations{o: o}
	w, err := r.witness(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	loaded, unload := context.WithCancel(ctx)
	defer unload()
	before := r.usage()
	done := make(chan carried, 1)
	go func() { done <- b.carry(loaded) }()
	if err = wait(ctx, warmUp); err == nil {
		v.refusals, err = r.blockAll(ctx)
	}
	unload()
	v.carried = <-done
	v.used = r.usage().since(before)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return err
	}
	w.tell(ctx, v.refusals)
	if o.chaos {
		// One that begins now has nothing in memory: what it knows was kept.
		if err := r.startAPIs(ctx, 1); err != nil {
			return err
		}
	}
	v.passed = r.askAgain(v.refusals)
	if err := r.weigh(ctx, "at the end"); err != nil {
		return err
	}
	v.memory = r.memory
	fmt.Fprint(out, "\n", v)
	return v.err()
}

// warmUp is how long the load runs before anybody is blocked.
const warmUp = time.Second

// blockAll blocks everybody, at random moments. The error is the chaos's own.
func (r *replicas) blockAll(ctx context.Context) (list []refusal, err error) {
	list = make([]refusal, len(r.people))
	disasters := make(chan func(context.Context) error, len(list))
	over := make(chan struct{})
	go func() {
		defer close(over)
		for strike := range disasters {
			err = errors.Join(err, strike(ctx))
		}
	}()
	var work sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	due := time.Now()
	for i, p := range r.people {
		due = due.Add(time.Duration(rand.ExpFloat64() * float64(time.Second) / blocksPerSecond))
		if wait(ctx, time.Until(due)) != nil {
			break
		}
		if strike := r.disaster(i); strike != nil {
			disasters <- strike
		}
		list[i] = refusal{someone: p, way: ways[i%len(ways)], server: i / len(ways) % len(r.servers)}
		turns <- struct{}{}
		work.Go(func() {
			defer func() { <-turns }()
			list[i].err = r.block(ctx, &list[i])
		})
	}
	work.Wait()
	close(disasters)
	<-over
	return list, err
}

// block blocks one person and waits until every API has refused the token.
func (r *replicas) block(ctx context.Context, f *refusal) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	looks := make([]*watched, len(r.apis))
	if err := each(len(r.apis), len(r.apis), func(i int) (err error) {
		looks[i], err = watchAt(ctx, r.client, r.apis[i], f.token)
		return err
	}); err != nil {
		return err
	}
	for {
		err := r.blockOnce(ctx, f)
		if err == nil {
			break
		}
		// What was refused was never promised: it is done again, as an operator
		// would.
		if !r.chaos || wait(ctx, retryEvery) != nil {
			return err
		}
		f.server = (f.server + 1) % len(r.servers)
	}
	f.seen = make([]sight, len(r.apis))
	return each(len(r.apis), len(r.apis), func(i int) (err error) {
		f.seen[i], err = looks[i].refused()
		return err
	})
}

// blockOnce blocks one person.
func (r *replicas) blockOnce(ctx context.Context, f *refusal) error {
	switch f.way {
	case byCommand:
		_, err := r.command(ctx, "", "user", "block", f.name)
		f.returned = time.Now()
		return err
	case byAPI:
		var err error
		f.returned, err = r.blockAt(ctx, f.server, f.id)
		return err
	}
	b, err := blockBy(ctx, r.client, r.operator, f.id)
	f.lasting, f.returned = b.Lasting, b.Returned
	return err
}

// retryEvery is how long to wait before something is tried again that failed
// because of the chaos.
const retryEvery = 100 * time.Millisecond

// longest is how long it may take until everybody refuses, to count at all.
const longest = 30 * time.Second

// askAgain asks every API with the token of everybody who was blocked, and
// returns how often it was not said that it was revoked.
func (r *replicas) askAgain(list []refusal) (passed int) {
	for _, api := range r.apis {
		c := newConn(api.address)
		for i := range list {
			resp, err := c.do(get(api.address, "/", "Authorization: Bearer "+list[i].token+"\r\n"))
			if err != nil || resp.status != 401 || !strings.Contains(string(resp.body), "revoked") {
				passed++
			}
		}
		c.close()
	}
	return passed
}

// describeRevocations says what is measured.
func describeRevocations(o options) string {
	return fmt.Sprintf("%d people are blocked, about %d a second: %d servers on %s, %d APIs; each API looks every %s whether the token passes\n",
		o.revocations, blocksPerSecond, o.servers, o.store, o.apis, lookEvery)
}
