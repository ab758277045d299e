package redis

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// batcher sends what callers ask of one server at the same time as one
// pipeline: a system call, and a WAIT, for many. It is most of what a trip
// costs. There is no goroutine and no delay: the first caller sends its own,
// those who come meanwhile are sent together when it is back.
type batcher struct {
	store *Store
	node  *redis.Client

	mu      sync.Mutex
	queue   []*call
	leaders int // callers who are sending now
}

// call is what one caller asks.
type call struct {
	commands []redis.Cmder
	// lasting asks for the replicas; acknowledged is how many have it, or
	// waitErr why that is not known.
	lasting      bool
	acknowledged int
	waitErr      error

	turn chan turn
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
	b.mu.Lock()
	if b.leaders < maxLeaders {
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
		b.lead(c)
	}
	return nil
}

// lead sends the leader's own call with those that wait, and hands the lead to
// the first of those that came meanwhile.
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
	ctx, cancel := context.WithTimeout(context.Background(), b.store.timeout)
	defer cancel()
	pipe := b.node.Pipeline()
	lasting := false
	for _, c := range batch {
		for _, cmd := range c.commands {
			pipe.Process(ctx, cmd)
		}
		lasting = lasting || c.lasting
	}
	var waited *redis.Cmd
	if lasting {
		waited = pipe.Do(ctx, "WAIT", b.store.replicas, (b.store.timeout / 2).Milliseconds())
	}
	execute(ctx, pipe)
	if lasting {
		n, err := waited.Int()
		for _, c := range batch {
			c.acknowledged, c.waitErr = n, err
		}
	}
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

// lane is a server, and whether what is sent waits for its replicas: what does
// not must not wait for what does.
type lane struct {
	node    *redis.Client
	lasting bool
}

// batcher returns that of a lane.
func (s *Store) batcher(node *redis.Client, lasting bool) *batcher {
	l := lane{node, lasting}
	if b, ok := s.batchers.Load(l); ok {
		return b.(*batcher)
	}
	b, _ := s.batchers.LoadOrStore(l, &batcher{store: s, node: node})
	return b.(*batcher)
}
