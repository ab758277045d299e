package redis_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

func newLimiter(t *testing.T, url string) *redis.Limiter {
	t.Helper()
	l, err := redis.NewLimiter(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestLimiterCharges buckets of one slot and of several, on one server and on a
// cluster, by a script that the server knows or has forgotten.
func TestLimiterCharges(t *testing.T) {
	servers := map[string]func() (string, []*redistest.Server){
		"one": func() (string, []*redistest.Server) {
			s := redistest.Single(t)
			return "redis://" + s.Addr, []*redistest.Server{s}
		},
		"cluster": func() (string, []*redistest.Server) {
			c := redistest.NewCluster(t)
			return "redis+cluster://" + c.Servers[0].Addr, c.Servers
		},
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			url, all := start()
			l := newLimiter(t, url)
			charge := func(cost time.Duration, keys ...byte) []time.Duration {
				t.Helper()
				list, costs := make([][32]byte, len(keys)), make([]time.Duration, len(keys))
				for i, k := range keys {
					list[i], costs[i] = [32]byte{k % 200, k}, cost
				}
				backlogs, err := l.Charge(t.Context(), list, costs)
				if err != nil {
					t.Fatal(err)
				}
				return backlogs
			}
			const hour = time.Hour
			near := func(got, want time.Duration) bool { return got <= want && got > want-time.Minute }
			for range 2 {
				for _, s := range all {
					do(t, s, "SCRIPT", "FLUSH")
				}
				// 1 and 65 are in one slot.
				for i, got := range charge(hour, 1, 65, 2, 130, 63) {
					if got != hour {
						t.Errorf("bucket %d was full, and charged an hour needs %s", i, got)
					}
				}
				if got := charge(hour, 65, 1, 3); !near(got[0], 2*hour) || !near(got[1], 2*hour) || got[2] != hour {
					t.Errorf("charged another hour: %s", got)
				}
				if got := charge(0, 1, 65, 2); !near(got[0], 2*hour) || !near(got[1], 2*hour) || !near(got[2], hour) {
					t.Errorf("charged nothing: %s", got)
				}
				// What is full again counts as full, forgotten or not.
				if got := charge(time.Nanosecond, 4); got[0] != time.Microsecond {
					t.Errorf("charged less than can be counted: %s", got)
				}
				if got := charge(hour, 4); got[0] != hour {
					t.Errorf("full again and charged an hour, it needs %s", got)
				}
				for _, s := range all {
					if _, err := s.Do("FLUSHALL"); err != nil && !strings.Contains(err.Error(), "READONLY") {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// TestLimiterCountsEachOnce, of several processes at a time.
func TestLimiterCountsEachOnce(t *testing.T) {
	server := redistest.Single(t)
	var wg sync.WaitGroup
	const processes, times = 4, 50
	for range processes {
		l := newLimiter(t, "redis://"+server.Addr)
		wg.Go(func() {
			for range times {
				if _, err := l.Charge(t.Context(), [][32]byte{{1}}, []time.Duration{time.Hour}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	backlogs, err := newLimiter(t, "redis://"+server.Addr).Charge(t.Context(), [][32]byte{{1}}, []time.Duration{0})
	check(t, err)
	if want := processes * times * time.Hour; backlogs[0] > want || backlogs[0] < want-time.Minute {
		t.Errorf("%s were charged, %s are expected", backlogs[0], want)
	}
}

// TestBucketLivesUntilItIsFull, and is nothing that a store would wonder at.
func TestBucketLivesUntilItIsFull(t *testing.T) {
	server := redistest.Single(t)
	url := "redis://" + server.Addr
	l := newLimiter(t, url)
	_, err := l.Charge(t.Context(), [][32]byte{{66}}, []time.Duration{time.Minute})
	check(t, err)
	key := "sg:q{2}Qg" + strings.Repeat("A", 41)
	if left := do(t, server, "TTL", key); left != "60" && left != "59" {
		t.Errorf("it lives for %s seconds: %s", left, do(t, server, "KEYS", "*"))
	}
	check(t, open(t, url).Check(t.Context(), func(p string) { t.Error(p) }))
	// A rights list of no more than what the package says.
	do(t, server, "ACL", "SETUSER", "guard", "on", ">secret", "~sg:q{*", "+eval", "+evalsha", "+get", "+set", "+time")
	if err := newLimiter(t, "redis://guard:secret@"+server.Addr).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := newLimiter(t, "redis://guard:wrong@"+server.Addr).Ping(t.Context()); err == nil || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("a wrong password: %v", err)
	}
	do(t, server, "DEL", key)
	do(t, server, "HSET", key, "a", "b")
	if _, err := l.Charge(t.Context(), [][32]byte{{66}}, []time.Duration{time.Minute}); err == nil {
		t.Error("something else in a bucket's place is no error")
	}
}

// TestLimiterWaitsNoLonger than its caller has time, whatever Redis does, and
// goes on when it is back.
func TestLimiterWaitsNoLonger(t *testing.T) {
	server := redistest.Single(t)
	proxy := redistest.NewProxy(t, server.Addr)
	l := newLimiter(t, "redis://"+proxy.Addr)
	fresh := newLimiter(t, "redis://"+proxy.Addr) // without a connection
	charge := func(l *redis.Limiter) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := l.Charge(ctx, [][32]byte{{1}}, []time.Duration{time.Second})
		return time.Since(began), err
	}
	_, err := charge(l)
	check(t, err)
	for name, c := range map[string]struct{ begin, end func() }{
		"hangs":   {server.Pause, server.Resume},
		"refuses": {func() { proxy.Refuse(true) }, func() { proxy.Refuse(false) }},
		"is slow": {func() { proxy.SetLatency(time.Second) }, func() { proxy.SetLatency(0) }},
		"is dead": {server.Kill, server.Start},
	} {
		c.begin()
		for _, l := range []*redis.Limiter{l, fresh} {
			if took, err := charge(l); err == nil || took > 2*time.Second {
				t.Errorf("%s: %s, %v", name, took, err)
			}
		}
		c.end()
		for _, l := range []*redis.Limiter{l, fresh} {
			redistest.Wait(t, "a charge after Redis "+name, func() error { _, err := charge(l); return err })
		}
	}
}

// TestChargeInREADME holds the README for APIs that have a Redis of their own to
// the script that is tested here.
func TestChargeInREADME(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("script", "charge.lua"))
	check(t, err)
	readme, err := os.ReadFile(filepath.Join("..", "..", "keys", "verify", "README.md"))
	check(t, err)
	if !strings.Contains(string(readme), string(script)) {
		t.Error("keys/verify/README.md does not have script/charge.lua as it is")
	}
}
