package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// limit is when a measurement ends: after so many operations if that is set,
// else after so long.
type limit struct {
	operations int
	duration   time.Duration
	// every is the time from one operation of a worker to its next, whenever
	// that one is done; 0: at once.
	every time.Duration
}

// worker does one operation after another on a connection of its own.
type worker struct {
	number int
	conn   *conn
}

// errDry ends a worker early: it has used up what it works on.
var errDry = errors.New("nothing left to work on")

// result is what a measurement gave.
type result struct {
	name       string
	operations int // those that went well
	errors     int
	first      error // one of the errors
	elapsed    time.Duration
	latency    histogram
	cpu        time.Duration // of the server, in all; 0 if it can't be read
	store      time.Duration // CPU time of the Redis, likewise
	others     time.Duration // CPU time that other programs took from the machine
	inside     bool          // measured in this process, without the network
	late       int           // DPoP proofs that the generator signed meanwhile
	aim        aim
}

// rate is good operations per second.
func (r result) rate() float64 {
	if r.elapsed <= 0 {
		return 0
	}
	return float64(r.operations) / r.elapsed.Seconds()
}

// cpuEach is the server's CPU time per good operation, with its Redis's.
func (r result) cpuEach() time.Duration {
	if r.operations == 0 {
		return 0
	}
	return (r.cpu + r.store) / time.Duration(r.operations)
}

// storeEach is the part of cpuEach that is the Redis's.
func (r result) storeEach() time.Duration {
	if r.operations == 0 {
		return 0
	}
	return r.store / time.Duration(r.operations)
}

// load lets n workers do op on address until the limit, and measures.
func load(ctx context.Context, n int, until limit, address string, op func(*worker) error) result {
	if until.operations == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, until.duration)
		defer cancel()
	}
	var (
		left    atomic.Int64
		workers = make([]result, n)
		all     sync.WaitGroup
	)
	left.Store(int64(until.operations))
	start := time.Now()
	for i := range workers {
		all.Go(func() {
			r, w := &workers[i], &worker{number: i, conn: newConn(address)}
			defer w.conn.close()
			// Not all at the same moment.
			due := start.Add(time.Duration(i) * until.every / time.Duration(n))
			for ctx.Err() == nil && (until.operations == 0 || left.Add(-1) >= 0) {
				begin := time.Now()
				if until.every > 0 {
					if wait(ctx, due.Sub(begin)) != nil {
						return
					}
					// What waits for a slow one before it counts its wait.
					begin, due = due, due.Add(until.every)
				}
				switch err := op(w); {
				case err == nil:
					r.operations++
					r.latency.add(time.Since(begin))
				case errors.Is(err, errDry):
					return
				default:
					r.errors++
					r.first = err
				}
			}
		})
	}
	all.Wait()
	sum := result{elapsed: time.Since(start)}
	for i := range workers {
		sum.operations += workers[i].operations
		sum.errors += workers[i].errors
		sum.latency.merge(&workers[i].latency)
		if sum.first == nil {
			sum.first = workers[i].first
		}
	}
	return sum
}

// wait waits, until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expect makes an error of an answer that is not the one that was wanted. The
// body is left out: it may hold tokens.
func expect(r response, err error, status int) error {
	if err == nil && r.status != status {
		return fmt.Errorf("answered %d (%s), %d expected", r.status, member(r.body, "error"), status)
	}
	return err
}

// histogram counts latencies in steps of at most 1/64 of their value, in a
// space that does not grow.
type histogram struct {
	counts [64 * 64]uint32
	total  int
}

// bucket: below 64 ns each has its own, above that each power of two has 64.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 64 {
		return int(n)
	}
	shift := bits.Len64(n) - 7
	return (shift+1)<<6 + int(n>>shift) - 64
}

// least is the smallest duration in a bucket.
func least(bucket int) time.Duration {
	if bucket < 64 {
		return time.Duration(bucket)
	}
	shift := bucket>>6 - 1
	return time.Duration(uint64(bucket&63+64) << shift)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// quantile is the latency that the share q of all operations stayed within.
func (h *histogram) quantile(q float64) time.Duration {
	rest := int(q * float64(h.total))
	for i, n := range h.counts {
		if rest -= int(n); rest < 0 {
			return least(i + 1)
		}
	}
	return 0
}
