package redis

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

//go:embed script/charge.lua
var chargeText string

// It is no script of a Store: it has no outcomes, and a Limiter loads it.
var chargeScript = redis.NewScript(chargeText)

// chargeSlots is in how many slots the buckets are: one script charges all of
// one, and a cluster's servers share the work.
const chargeSlots = 64

// Limiter charges token buckets that several processes share, so that an account
// has one limit at all of them. It is for what must not wait and can be lost:
// nothing is lasting, nothing is tried again, and it needs no Redis that writes to
// disk. It touches no other keys, and may be a user that can't: ACL SETUSER guard on
// >… ~sg:q{* +eval +evalsha +get +set +time. It is safe for concurrent use.
type Limiter struct {
	prefix  string
	timeout time.Duration
	client  redis.UniversalClient
}

// NewLimiter returns a Limiter of the Redis at a URL, as the package has it. Of
// the parameters, replicas and fsync mean nothing here. It connects to nothing
// yet, and so fails only for a URL that can't be.
func NewLimiter(url string) (*Limiter, error) {
	l, err := parse(url)
	if err != nil {
		return nil, err
	}
	quiet.Do(logging.Disable)
	l.fsync = 0                                         // nobody waits for the disk
	l.connectionsPerNode = min(l.connectionsPerNode, 4) // one is in use, others take its place
	limiter := &Limiter{prefix: l.prefix, timeout: l.timeout}
	if one, spread := dial(l); spread != nil {
		limiter.client = spread
	} else {
		limiter.client = one
	}
	return limiter, nil
}

// Charge adds each cost to how long the bucket of its key needs to be full
// again, and returns these sums, by the clock of Redis and rounded up to
// microseconds: for each key in one atomic step. It returns when ctx's deadline
// or the URL's timeout is over. After an error some of it may have been charged.
func (l *Limiter) Charge(ctx context.Context, keys [][32]byte, costs []time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	var bySlot [chargeSlots][]int // of keys
	for i, key := range keys {
		slot := key[0] % chargeSlots
		bySlot[slot] = append(bySlot[slot], i)
	}
	var calls []*charge
	for slot, list := range bySlot {
		if len(list) == 0 {
			continue
		}
		c := &charge{of: list, args: []any{"evalsha", chargeScript.Hash(), len(list)}}
		for _, i := range list {
			c.args = append(c.args, l.bucketKey(slot, keys[i]))
		}
		for _, i := range list {
			c.args = append(c.args, int64((costs[i]+time.Microsecond-1)/time.Microsecond))
		}
		calls = append(calls, c)
	}
	l.send(ctx, calls)
	var unknown []*charge
	for _, c := range calls {
		if redis.HasErrorPrefix(c.answer.Err(), "NOSCRIPT") { // nothing was charged
			c.args[0], c.args[1] = "eval", chargeText
			unknown = append(unknown, c)
		}
	}
	l.send(ctx, unknown)
	backlogs := make([]time.Duration, len(keys))
	for _, c := range calls {
		list, err := c.answer.Int64Slice()
		if err == nil && len(list) != len(c.of) {
			err = fmt.Errorf("the script answered %d numbers, %d are expected", len(list), len(c.of))
		}
		if err != nil {
			return nil, err
		}
		for n, i := range c.of {
			backlogs[i] = time.Duration(list[n]) * time.Microsecond
		}
	}
	return backlogs, nil
}

// charge is one script.
type charge struct {
	of     []int // which keys
	args   []any
	answer *redis.Cmd
}

func (l *Limiter) send(ctx context.Context, calls []*charge) {
	if len(calls) == 0 {
		return
	}
	pipe := l.client.Pipeline()
	for _, c := range calls {
		c.answer = redis.NewCmd(ctx, c.args...)
		c.answer.SetFirstKeyPos(3)
		pipe.Process(ctx, c.answer)
	}
	execute(ctx, pipe)
}

// bucketKey is where a bucket is.
func (l *Limiter) bucketKey(slot int, key [32]byte) string {
	return l.prefix + "q{" + strconv.Itoa(slot) + "}" + base64.RawURLEncoding.EncodeToString(key[:])
}

// Ping returns why the Redis can't be used now, or nil. It writes nothing that
// stays.
func (l *Limiter) Ping(ctx context.Context) error {
	_, err := l.Charge(ctx, [][32]byte{{}}, []time.Duration{0})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it does not answer within %s", l.timeout)
	}
	return err
}

// Close closes the connections.
func (l *Limiter) Close() error { return l.client.Close() }
