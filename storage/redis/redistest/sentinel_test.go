package redistest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage/redis/redistest"
)

func TestSentinel(t *testing.T) {
	s := redistest.NewSentinel(t)
	if primary := s.Primary(); primary != s.Servers[0] {
		t.Fatalf("the primary is %s in the beginning", primary.Addr)
	}
	other := func(of *redistest.Server) *redistest.Server {
		if of == s.Servers[0] {
			return s.Servers[1]
		}
		return s.Servers[0]
	}
	failover := func(t *testing.T, stop func(*redistest.Server)) {
		before := s.Primary()
		after := other(before)
		do(t, before, "SET", "key", t.Name())
		redistest.Wait(t, "the replica to have it", func() error {
			if got := do(t, after, "GET", "key"); got != t.Name() {
				return fmt.Errorf("it has %q", got)
			}
			return nil
		})
		stop(before)
		redistest.Wait(t, "a failover", func() error {
			if s.Primary() == before {
				return fmt.Errorf("the primary is still %s", before.Addr)
			}
			_, err := after.Do("SET", "after", "value")
			return err
		})
		if got := do(t, after, "GET", "key"); got != t.Name() {
			t.Errorf("after a failover: %q", got)
		}
		s.Settle()
		if s.Primary() != after {
			t.Errorf("the primary is not the one that took over")
		}
		if answer, err := before.Do("SET", "key", "value"); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
			t.Errorf("the old primary takes a write: %q, %v", answer, err)
		}
	}
	t.Run("Kill", func(t *testing.T) { failover(t, (*redistest.Server).Kill) })
	t.Run("Pause", func(t *testing.T) { failover(t, (*redistest.Server).Pause) })
	t.Run("WithoutOneSentinel", func(t *testing.T) {
		s.Sentinels[0].Kill()
		failover(t, (*redistest.Server).Kill)
	})
}
