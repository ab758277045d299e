package redis

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestLeadIsTaken: whoever gives up at the moment at which the lead is handed
// to it takes that, or nobody would ever send again.
func TestLeadIsTaken(t *testing.T) {
	node := redis.NewClient(&redis.Options{})
	defer node.Close()
	for range 1000 {
		b := &batcher{store: &Store{timeout: time.Second}, node: node, leaders: maxLeaders}
		c := &call{}
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
		b.queue = nil
		c.turn <- leads
		b.mu.Unlock()
		if err := <-back; err != nil {
			t.Fatal(err)
		}
		if b.leaders != maxLeaders-1 {
			t.Fatal("the lead is lost")
		}
	}
}
