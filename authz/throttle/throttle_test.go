package throttle_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/throttle"
	"github.com/solegate/solegate/storage"
)

// counters counts in memory.
type counters map[string]map[int64]int

func (c counters) Count(_ context.Context, key string, n int, now time.Time, window time.Duration) (storage.Tally, error) {
	if c[key] == nil {
		c[key] = map[int64]int{}
	}
	part := now.UnixNano() / int64(window)
	c[key][part] += n
	return storage.Tally{Current: c[key][part], Previous: c[key][part-1]}, nil
}

func TestLimit(t *testing.T) {
	now := time.Unix(1_700_000_100, 0)
	c := counters{}
	th := throttle.New(c, [32]byte{1}, func() time.Time { return now })
	b := throttle.Bucket{Kind: "account", Whose: "alice", Limit: throttle.Limit{N: 5, Window: 15 * time.Minute}}
	try := func() time.Duration {
		t.Helper()
		wait, err := th.Allowed(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if wait == 0 {
			if err := th.Count(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		return wait
	}
	for i := range 5 {
		if wait := try(); wait != 0 {
			t.Fatalf("try %d waits %s", i, wait)
		}
	}
	wait := try()
	if wait <= 0 || wait > 30*time.Minute {
		t.Fatalf("the sixth try waits %s", wait)
	}
	// Who waits as told may try again; nobody is told to wait for nothing.
	now = now.Add(wait)
	if again := try(); again != 0 {
		t.Errorf("after waiting %s it is %s more", wait, again)
	}
	// In any window of the limit's length there are never twice as many.
	count := 0
	begin := now
	for now.Before(begin.Add(15 * time.Minute)) {
		if try() == 0 {
			count++
		}
		now = now.Add(time.Second)
	}
	if count == 0 || count > 10 {
		t.Errorf("%d tries in a window of 5", count)
	}
	other := b
	other.Whose = "bob"
	if wait, _ := th.Allowed(t.Context(), other); wait != 0 {
		t.Error("another account waits, too")
	}
	for key := range c {
		if key == "alice" || len(key) < 20 {
			t.Errorf("the store sees %q", key)
		}
	}
}

func TestNetwork(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := throttle.Network(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %s, %s expected", a, got, want)
		}
	}
}
