package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// batcher sends what callers ask of one server at the same time as one
// pipeline: a system call, and a WAIT, for many. It is most of what a trip
// costs. There is no goroutine and no delay: the first caller sends its own,
// those who come meanwhile are sent together when it is back.
//
// A caller whose time is up before its call was sent has sent nothing. A call
// that was sent has its answer or error half a limit after its caller's time
// at the latest.
type batcher struct {
	store *Store
	lane

	mu      sync.Mutex
	queue   []*call
	leaders int // callers who are sending now
}

// call is what one caller asks.
type call struct {
	commands []redis.Cmder
	// heldErr is nil if all that the lane waits for came, within its time.
	heldErr error

	limit time.Time // of the caller; zero for none
	turn  chan turn
}

type turn bool

const (
	answered turn = false
	leads    turn = true // send the next batch, your own in it
)

const (
	// maxLeaders is how many pipelines to one server are under way at once.
	maxLeaders = 2
	// maxBatch bounds how many calls share one, so that none waits long.
	maxBatch = 64
)

// do sends the call's commands and returns when each has its answer or error.
// The error is ctx's: then nothing was sent.
func (b *batcher) do(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.limit, _ = ctx.Deadline()
	b.mu.Lock()
	if b.leaders < b.store.leaders(b.hold) {
		b.leaders++
		b.mu.Unlock()
		b.lead(c)
		return nil
	}
	c.turn = make(chan turn, 1)
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	select {
	case t := <-c.turn:
		if t == leads {
			b.lead(c)
		}
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.queue, c)
	if i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	b.mu.Unlock()
	if i >= 0 {
		return ctx.Err()
	}
	if t := <-c.turn; t == leads { // it is being sent, or is ours to send
		b.pass()
		return ctx.Err()
	}
	return nil
}

// lead sends the leader's own call with those that wait, and passes the lead on.
func (b *batcher) lead(own *call) {
	b.mu.Lock()
	n := min(len(b.queue), maxBatch)
	batch := append(make([]*call, 0, 1+n), own)
	batch = append(batch, b.queue[:n]...)
	b.queue = slices.Delete(b.queue, 0, n)
	b.mu.Unlock()

	b.send(batch)
	for _, c := range batch[1:] {
		c.turn <- answered
	}
	b.pass()
}

// pass hands the lead to the first of those that came meanwhile.
func (b *batcher) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.leaders--
		return
	}
	// Out of the queue at once: another leader must not hand it on, too.
	next := b.queue[0]
	b.queue = slices.Delete(b.queue, 0, 1)
	next.turn <- leads
}

func (b *batcher) send(batch []*call) {
	// Not a caller's context: the others' commands are in it, too.
	ctx, cancel := context.WithDeadline(context.Background(), b.limit(batch))
	defer cancel()
	pipe := b.node.Pipeline()
	for _, c := range batch {
		for _, cmd := range c.commands {
			pipe.Process(ctx, cmd)
		}
	}
	held := b.store.wait(ctx, pipe, b.hold)
	execute(ctx, pipe)
	err := held()
	for _, c := range batch {
		c.heldErr = err
	}
}

// limit is when a batch that is sent now is given up: late enough for what it
// waits for, early enough for the first of its callers whose time is up.
func (b *batcher) limit(batch []*call) time.Time {
	limit := time.Now().Add(b.store.limit(b.hold))
	for _, c := range batch {
		if l := c.limit.Add(b.store.limit(b.hold) - b.store.timeout/2); !c.limit.IsZero() && l.Before(limit) {
			limit = l
		}
	}
	return limit
}

// execute sends a pipeline; each command then has its own answer or error. The
// client sets none when the server refuses the connection in words, such as
// for a changed password: the commands then look answered, with nothing.
func execute(ctx context.Context, pipe redis.Pipeliner) {
	commands := pipe.Cmds()
	_, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(commands, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return
	}
	for _, c := range commands {
		c.SetErr(err)
	}
}

// lane is a server, and what is waited for at it: what does not wait must not
// wait for what does.
type lane struct {
	node *redis.Client
	hold hold
}

// batcher returns that of a lane.
func (s *Store) batcher(node *redis.Client, h hold) *batcher {
	l := lane{node, h}
	if b, ok := s.batchers.Load(l); ok {
		return b.(*batcher)
	}
	b, _ := s.batchers.LoadOrStore(l, &batcher{store: s, lane: l})
	return b.(*batcher)
}

var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// forget drops what is kept for nodes that have left the cluster: their
// clients are closed by then, and refuse what is canceled for that reason.
func (s *Store) forget() {
	gone := func(node *redis.Client) bool { return errors.Is(node.Ping(canceled).Err(), redis.ErrClosed) }
	s.nodes.Range(func(addr, node any) bool {
		if gone(node.(*redis.Client)) {
			s.nodes.CompareAndDelete(addr, node)
		}
		return true
	})
	s.batchers.Range(func(l, _ any) bool {
		if gone(l.(lane).node) {
			s.batchers.Delete(l)
		}
		return true
	})
}
