package redis

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestLeadIsTaken: whoever gives up at the moment at which the lead is handed
// to it passes it on, or nobody would ever send again. It sends nothing itself:
// its time is up.
func TestLeadIsTaken(t *testing.T) {
	node := redis.NewClient(&redis.Options{})
	defer node.Close()
	for range 1000 {
		b := &batcher{store: &Store{timeout: time.Second}, lane: lane{node: node}, leaders: maxLeaders}
		c := &call{}
		next := &call{turn: make(chan turn, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		back := make(chan error)
		go func() { back <- b.do(ctx, c) }()
		for {
			b.mu.Lock()
			if len(b.queue) == 1 {
				break
			}
			b.mu.Unlock()
		}
		cancel()
		b.queue = []*call{next}
		c.turn <- leads
		b.mu.Unlock()
		switch err := <-back; {
		case err == nil: // it took the lead before it saw that its time is up
			if b.leaders != maxLeaders-1 || <-next.turn != answered {
				t.Fatal("the lead is lost")
			}
		case !errors.Is(err, context.Canceled):
			t.Fatal(err)
		case b.leaders != maxLeaders || <-next.turn != leads:
			t.Fatal("the lead is lost")
		}
	}
}

// seen is a server that answers at once, and when it would have been given up.
type seen struct{ limits []time.Time }

func (s *seen) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
}
func (s *seen) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return nil }
}
func (s *seen) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, _ []redis.Cmder) error {
		limit, _ := ctx.Deadline()
		s.limits = append(s.limits, limit)
		return nil
	}
}

// TestBatchIsBounded: however late in a caller's time its call is sent, it is
// over one and a half limits after it came, and one that was never sent before.
func TestBatchIsBounded(t *testing.T) {
	const timeout = time.Second
	var server seen
	node := redis.NewClient(&redis.Options{})
	defer node.Close()
	node.AddHook(&server)
	b := &batcher{store: &Store{timeout: timeout, fsync: 3 * time.Second}, lane: lane{node: node}}
	due := func(left time.Duration) *call {
		return &call{commands: []redis.Cmder{redis.NewCmd(t.Context(), "ping")}, limit: time.Now().Add(left)}
	}
	for _, h := range []hold{nothing, replicas, disk} {
		b.hold = h
		whole := b.store.limit(h)
		old, fresh := due(time.Millisecond), due(whole)
		before := time.Now()
		b.send([]*call{fresh})
		if limit := server.limits[0]; limit.Before(before.Add(whole)) || limit.After(time.Now().Add(whole)) {
			t.Errorf("hold %d: what is sent at once has %s", h, limit.Sub(before))
		}
		b.send([]*call{fresh, old})
		if after := server.limits[1].Sub(old.limit); after != whole-timeout/2 {
			t.Errorf("hold %d: it is given up %s after its caller's time", h, after)
		}
		server.limits = nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.do(ctx, due(time.Second)); !errors.Is(err, context.Canceled) || server.limits != nil {
		t.Errorf("whose time was up before: sent %d, %v", len(server.limits), err)
	}
}

// TestNodesAreForgotten: a cluster whose servers come and go leaves nothing
// behind.
func TestNodesAreForgotten(t *testing.T) {
	s := &Store{timeout: time.Second}
	node := func(addr string) *redis.Client {
		node := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		t.Cleanup(func() { node.Close() })
		s.nodes.Store(addr, node)
		s.batcher(node, nothing)
		s.batcher(node, replicas)
		return node
	}
	s.connect(&location{topology: cluster, addrs: []string{"127.0.0.1:4"}, timeout: 100 * time.Millisecond, connectionsPerNode: 1})
	defer s.spread.Close()
	stays, goes, moved := node("127.0.0.1:1"), node("127.0.0.1:2"), node("127.0.0.1:3")
	back := node("127.0.0.1:3")
	goes.Close()
	moved.Close()
	s.spread.MasterForKey(t.Context(), "key") // nobody is there, but that is a node
	if s.nodeAt("127.0.0.1:4") == nil {
		t.Fatal("no node was added")
	}
	count := 0
	s.batchers.Range(func(l, _ any) bool {
		if n := l.(lane).node; n != stays && n != back {
			t.Errorf("what is sent to %s is kept", n)
		}
		count++
		return true
	})
	if count != 4 || s.nodeAt("127.0.0.1:1") != stays || s.nodeAt("127.0.0.1:2") != nil || s.nodeAt("127.0.0.1:3") != back {
		t.Errorf("%d batchers are left, and %v %v %v", count, s.nodeAt("127.0.0.1:1"), s.nodeAt("127.0.0.1:2"), s.nodeAt("127.0.0.1:3"))
	}
}
