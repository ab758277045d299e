package redistest_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage/redis/redistest"
)

func TestCluster(t *testing.T) {
	c := redistest.NewCluster(t)
	const tag = "{solegate}"
	slot, err := strconv.Atoi(do(t, c.Servers[0], "CLUSTER", "KEYSLOT", tag))
	if err != nil {
		t.Fatal(err)
	}
	fails := func(s *redistest.Server, with string, args ...string) {
		t.Helper()
		if answer, err := s.Do(args...); err == nil || !strings.HasPrefix(err.Error(), with) {
			t.Errorf("%s: %q, %v; %s expected", strings.Join(args, " "), answer, err, with)
		}
	}

	t.Run("Slots", func(t *testing.T) {
		for _, test := range []struct{ slot, server int }{{0, 0}, {5460, 0}, {5461, 1}, {10921, 1}, {10922, 2}, {16383, 2}} {
			if owner := c.Owner(test.slot); owner != c.Servers[test.server] {
				t.Errorf("slot %d is served by %s", test.slot, owner.Addr)
			}
		}
	})

	t.Run("Failover", func(t *testing.T) {
		for round := range 2 { // there and back
			before := c.Owner(slot)
			key := tag + strconv.Itoa(round)
			do(t, before, "SET", key, "value")
			replica := c.Servers[(slices.Index(c.Servers, before)+3)%6]
			redistest.Wait(t, "the replica to have it", func() error {
				if size := do(t, replica, "DBSIZE"); size != strconv.Itoa(round+1) {
					return fmt.Errorf("it has %s keys", size)
				}
				return nil
			})
			before.Kill()
			after := c.Owner(slot)
			if after != replica {
				t.Fatalf("the owner is %s, its replica %s expected", after.Addr, replica.Addr)
			}
			if got := do(t, after, "GET", key); got != "value" {
				t.Errorf("after a failover: %q", got)
			}
			c.Settle()
			if again := c.Owner(slot); again != after {
				t.Errorf("the owner is %s, %s before the other one was back", again.Addr, after.Addr)
			}
			fails(before, "MOVED", "GET", tag)
		}
	})

	t.Run("FailoverOfAPausedServer", func(t *testing.T) {
		before := c.Owner(slot)
		before.Pause()
		after := c.Owner(slot)
		if after == before {
			t.Fatal("the owner is the one that is paused")
		}
		before.Resume()
		c.Settle()
		if again := c.Owner(slot); again != after {
			t.Errorf("the owner is %s, %s before the other one was back", again.Addr, after.Addr)
		}
	})

	t.Run("Migrate", func(t *testing.T) {
		from, to := c.Owner(slot), c.Owner((slot+5461)%16384)
		do(t, from, "FLUSHALL")
		var keys []string
		for i := range 501 {
			keys = append(keys, tag+strconv.Itoa(i))
			do(t, from, "SET", keys[i], "value")
		}
		called := false
		c.Migrate(slot, to, func() {
			called = true
			if owner := c.Owner(slot); owner != from {
				t.Errorf("half way, the owner is %s already", owner.Addr)
			}
			if left := do(t, from, "CLUSTER", "COUNTKEYSINSLOT", strconv.Itoa(slot)); left != "250" {
				t.Errorf("half way, %s of 501 keys are left", left)
			}
			fails(from, "ASK", "GET", tag+"new")
			fails(from, "TRYAGAIN", append([]string{"MGET"}, keys...)...)
		})
		if !called {
			t.Error("between was not called")
		}
		for _, s := range c.Servers {
			if s != to {
				fails(s, "MOVED", "GET", tag)
			}
		}
		if got := do(t, to, append([]string{"EXISTS"}, keys...)...); got != "501" {
			t.Errorf("%s of 501 keys arrived", got)
		}
		c.Migrate(slot, from, func() {})
		if owner := c.Owner(slot); owner != from {
			t.Errorf("the owner is %s", owner.Addr)
		}
		c.Settle()
	})
}
