// Package throttle bounds how often something may be tried.
//
// A limit is a number of tries in a sliding window, estimated from two fixed
// windows of the store's counters, so that any number of servers count
// together and nothing grows with time.
//
// Use [Throttle.Try] before what is limited. Where only its failures count,
// ask [Throttle.Allowed] before it and [Throttle.Count] the failure after it:
// what runs at once may then exceed the limit.
package throttle

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"time"

	"github.com/solegate/solegate/storage"
)

// Limit is at most N tries in each Window.
type Limit struct {
	N      int
	Window time.Duration
}

// Throttle counts tries. It is safe for concurrent use.
type Throttle struct {
	counters storage.Counters
	key      [32]byte
	now      func() time.Time
}

// New returns a Throttle. The key keeps names and addresses out of the store:
// only their message authentication codes are in it.
func New(c storage.Counters, key [32]byte, now func() time.Time) *Throttle {
	return &Throttle{c, key, now}
}

// Bucket is what is counted under one limit: a kind, and whose it is.
type Bucket struct {
	Kind  string
	Whose string
	Limit Limit
}

// Allowed returns zero if another try is within every bucket's limit, or how
// long to wait. It counts nothing.
func (t *Throttle) Allowed(ctx context.Context, buckets ...Bucket) (wait time.Duration, err error) {
	for _, b := range buckets {
		now := t.now()
		tally, err := t.counters.Count(ctx, t.name(b), 0, now, b.Limit.Window)
		if err != nil {
			return 0, err
		}
		wait = max(wait, b.Limit.wait(tally, now))
	}
	return wait, nil
}

// Try counts a try in each bucket and returns zero, or returns how long to
// wait because a bucket is full. The decision is by the tally that has this
// try in it: of any number of tries at once, no more than the limit pass. A
// bucket that is full already is not filled further, so nobody prolongs
// another's wait by trying on.
func (t *Throttle) Try(ctx context.Context, buckets ...Bucket) (wait time.Duration, err error) {
	if wait, err = t.Allowed(ctx, buckets...); wait > 0 || err != nil {
		return wait, err
	}
	for _, b := range buckets {
		now := t.now()
		tally, err := t.count(ctx, b, now)
		if err != nil {
			return 0, err
		}
		before := tally
		before.Current--
		if b.Limit.wait(before, now) > 0 {
			wait = max(wait, b.Limit.wait(tally, now))
		}
	}
	return wait, nil
}

// Count counts a try in each bucket, full or not.
func (t *Throttle) Count(ctx context.Context, buckets ...Bucket) error {
	for _, b := range buckets {
		if _, err := t.count(ctx, b, t.now()); err != nil {
			return err
		}
	}
	return nil
}

// TakeBack takes a try that Try let through out of each bucket again: it turned
// out to be none of those that are limited.
func (t *Throttle) TakeBack(ctx context.Context, buckets ...Bucket) error {
	for _, b := range buckets {
		if _, err := t.counters.Count(ctx, t.name(b), -1, t.now(), b.Limit.Window); err != nil {
			return err
		}
	}
	return nil
}

func (t *Throttle) count(ctx context.Context, b Bucket, now time.Time) (storage.Tally, error) {
	return t.counters.Count(ctx, t.name(b), 1, now, b.Limit.Window)
}

// wait is how long it takes until the estimate allows one more: the previous
// window counts for the share of it that the sliding window still covers.
func (l Limit) wait(tally storage.Tally, now time.Time) time.Duration {
	into := time.Duration(now.UnixNano() % int64(l.Window))
	share := 1 - float64(into)/float64(l.Window)
	if float64(tally.Current)+float64(tally.Previous)*share < float64(l.N) {
		return 0
	}
	if tally.Current >= l.N {
		// Until this window has become the previous one and enough of it has
		// slid out.
		after := 1 - float64(l.N)/float64(tally.Current+1)
		return l.Window - into + time.Duration(after*float64(l.Window))
	}
	needed := float64(l.N-tally.Current) / float64(tally.Previous)
	return max(time.Duration((1-needed)*float64(l.Window))-into, time.Second)
}

func (t *Throttle) name(b Bucket) string { return t.Name(b.Kind, b.Whose, b.Limit.Window) }

// Name is the counter of a kind, and whose it is, in windows of a length.
func (t *Throttle) Name(kind, whose string, window time.Duration) string {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(kind + "\x00" + whose + "\x00" + window.String()))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:18])
}

// Network is what of an address is counted: an IPv6 customer has a /64 at
// least, so one address of it says nothing.
func Network(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
