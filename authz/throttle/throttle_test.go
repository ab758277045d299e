package throttle_test

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
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

// held holds every read back until all who will read have come: each then
// decides by a tally that has nobody's try in it.
type held struct {
	counters
	mu    *sync.Mutex
	reads *sync.WaitGroup
}

func (h held) Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (storage.Tally, error) {
	if n == 0 {
		h.reads.Done()
		h.reads.Wait()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counters.Count(ctx, key, n, now, window)
}

func TestTriesAtOnceDoNotExceedTheLimit(t *testing.T) {
	const n, at = 5, 40
	h := held{counters{}, new(sync.Mutex), new(sync.WaitGroup)}
	h.reads.Add(at)
	now := time.Unix(1_700_000_100, 0)
	th := throttle.New(h, [32]byte{1}, func() time.Time { return now })
	var passed atomic.Int32
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			wait, err := th.Try(context.Background(), throttle.Bucket{Kind: "account", Whose: "alice", Limit: throttle.Limit{N: n, Window: time.Minute}})
			if err != nil || wait < 0 {
				t.Error(wait, err)
			}
			if wait == 0 {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	if got := passed.Load(); got != n {
		t.Errorf("%d of %d tries at once pass a limit of %d", got, at, n)
	}
}

func TestTryingOnDoesNotProlongTheWait(t *testing.T) {
	now := time.Unix(1_700_000_100, 0)
	th := throttle.New(counters{}, [32]byte{1}, func() time.Time { return now })
	b := throttle.Bucket{Kind: "account", Whose: "alice", Limit: throttle.Limit{N: 5, Window: time.Minute}}
	var first, last time.Duration
	for i := range 100 {
		wait, err := th.Try(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			first = wait
		}
		last = wait
	}
	if first == 0 || first != last {
		t.Errorf("the wait was %s, after more tries it is %s", first, last)
	}
}

func TestLimitsOfOneBucketAreCountedApart(t *testing.T) {
	now := time.Unix(1_700_000_100, 0)
	th := throttle.New(counters{}, [32]byte{1}, func() time.Time { return now })
	short := throttle.Bucket{Kind: "account", Whose: "alice", Limit: throttle.Limit{N: 5, Window: time.Minute}}
	long := throttle.Bucket{Kind: "account", Whose: "alice", Limit: throttle.Limit{N: 5, Window: time.Hour}}
	for range 5 {
		if wait, err := th.Try(t.Context(), short, long); wait != 0 || err != nil {
			t.Fatal(wait, err)
		}
	}
	now = now.Add(3 * time.Minute)
	if wait, err := th.Try(t.Context(), short); wait != 0 || err != nil {
		t.Errorf("the short window: %s, %v", wait, err)
	}
	if wait, err := th.Try(t.Context(), short, long); wait <= time.Minute || err != nil {
		t.Errorf("the long window: %s, %v", wait, err)
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
