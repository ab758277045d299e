package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// event is one like those of a server: its random ID, a grant, a reason.
func event(id string) storage.Event {
	return storage.Event{
		ID: id, Kind: storage.EventGrant, Subject: "k3v5n2q7w4x6y3z5abcdefghij.abcdefghijklm.nopqrstuvwxyz",
		NotBefore: start, Until: start.Add(5 * time.Minute), Reason: "refresh token reused",
	}
}

// follow reads all that is after a cursor.
func follow(t testing.TB, s storage.Store, after storage.Cursor) (ids []string, last storage.Cursor) {
	t.Helper()
	for {
		list, next, err := s.Events(t.Context(), after, 1000)
		check(t, err)
		if len(list) == 0 {
			return ids, after
		}
		for _, e := range list {
			ids = append(ids, e.ID)
		}
		after = next
	}
}

// await waits in another goroutine.
func await(t testing.TB, s storage.Store, after storage.Cursor) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.AwaitEvents(t.Context(), after) }()
	return done
}

// blocked waits until n connections wait in Redis.
func blocked(t testing.TB, server *redistest.Server, n int) {
	t.Helper()
	eventually(t, "it waits in Redis", func() bool { return info(t, server, "blocked_clients") == strconv.Itoa(n) })
}

// TestEventMemory: what the package says of a million.
func TestEventMemory(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	const n, most = 100_000, 180
	list := make([]storage.Event, 0, 500)
	for i := range n {
		if list = append(list, event(fmt.Sprintf("k3v5n2q7w4x6y3z5ab%08d", i))); len(list) == cap(list) {
			check(t, s.AppendEvents(t.Context(), list, start))
			list = list[:0]
		}
	}
	bytes, err := strconv.Atoi(do(t, server, "MEMORY", "USAGE", "sg:{e}events", "SAMPLES", "0"))
	check(t, err)
	t.Logf("%d bytes an event", bytes/n)
	if bytes/n > most {
		t.Errorf("an event takes %d bytes, at most %d are documented", bytes/n, most)
	}
}

// TestEventsOutliveAClock: neither a server whose clock is ahead nor a Redis
// whose clock is makes an end forgotten before its time.
func TestEventsOutliveAClock(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	ctx := t.Context()
	check(t, s.AppendEvents(ctx, []storage.Event{event("a"), event("b")}, start))
	ahead := start.Add(365 * 24 * time.Hour)
	swept := func(now time.Time, want int) {
		t.Helper()
		if n, err := s.Sweep(ctx, now, 100); err != nil || n != want {
			t.Errorf("%d were swept, %d expected: %v", n, want, err)
		}
	}
	late := event("c")
	late.Until = ahead.Add(time.Hour)
	check(t, s.AppendEvents(ctx, []storage.Event{late}, ahead))
	swept(ahead, 0)
	if got, _ := follow(t, s, ""); strings.Join(got, "") != "abc" {
		t.Errorf("a server whose clock is ahead left %v", got)
	}

	// What this Redis says was there for a year, for five minutes.
	do(t, server, "DEL", "sg:{e}events")
	until := strconv.FormatInt(start.Add(time.Hour).UnixNano(), 10)
	for i := range 3 {
		do(t, server, "XADD", "sg:{e}events", strconv.Itoa(i+1)+"-1", "i", strconv.Itoa(i), "k", "grant", "s", "x", "e", "0", "b", "1", "u", until, "r", "", "a", "", "l", "300000")
	}
	check(t, s.AppendEvents(ctx, []storage.Event{event("a")}, start))
	swept(start.Add(time.Hour), 0)
	swept(start.Add(time.Hour+20*time.Second-time.Millisecond), 0)
	if got, _ := follow(t, s, ""); strings.Join(got, "") != "012a" {
		t.Errorf("a Redis whose clock is ahead left %v", got)
	}
	swept(start.Add(time.Hour+20*time.Second), 3)
	check(t, s.Check(ctx, func(p string) { t.Error(p) }))
}

// TestEventsLeave: whoever appends removes more than comes.
func TestEventsLeave(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	dead := make([]storage.Event, 1000)
	for i := range dead {
		dead[i] = event(fmt.Sprint("dead", i))
		dead[i].Until = start.Add(-time.Hour)
	}
	check(t, s.AppendEvents(t.Context(), dead, start))
	for i := range 200 {
		check(t, s.AppendEvents(t.Context(), []storage.Event{event(fmt.Sprint(i))}, start))
	}
	if n := do(t, server, "XLEN", "sg:{e}events"); n != "200" {
		t.Errorf("%s events are there, 200 expected", n)
	}
}

// TestAwaitKeepsOutOfTheWay: whoever waits takes no connection from those who
// ask, is told at once, and waits on when its connection ends.
func TestAwaitKeepsOutOfTheWay(t *testing.T) {
	server := redistest.Single(t)
	s, other := open(t, with("redis://"+server.Addr, "connections=1")), open(t, "redis://"+server.Addr)
	ctx := t.Context()
	check(t, other.AppendEvents(ctx, []storage.Event{event("0")}, start))
	_, last := follow(t, s, "")
	var slowest time.Duration
	for i := range 20 {
		waiting := make([]<-chan error, 8)
		for w := range waiting {
			waiting[w] = await(t, s, last)
		}
		blocked(t, server, 1) // one for all
		check(t, s.Ready(ctx))
		if i%5 == 4 {
			id := ""
			for line := range strings.Lines(do(t, server, "CLIENT", "LIST")) {
				if strings.Contains(line, "cmd=xread") {
					id, _, _ = strings.Cut(strings.TrimPrefix(line, "id="), " ")
				}
			}
			do(t, server, "CLIENT", "KILL", "ID", id)
		}
		began := time.Now()
		check(t, other.AppendEvents(ctx, []storage.Event{event(fmt.Sprint(i + 1))}, start))
		for _, w := range waiting {
			check(t, <-w)
		}
		slowest = max(slowest, time.Since(began))
		got, next := follow(t, s, last)
		if len(got) != 1 || got[0] != fmt.Sprint(i+1) {
			t.Errorf("after %d: %v", i, got)
		}
		last = next
	}
	t.Logf("the slowest was told after %s", slowest)
	if n := strings.Count(do(t, server, "CLIENT", "LIST", "TYPE", "NORMAL"), "cmd=x"); n > 2 {
		t.Errorf("%d connections wait or waited, 2 are allowed", n)
	}
	done := await(t, s, last)
	check(t, s.Close())
	want(t, <-done, storage.ErrUnavailable)
	blocked(t, server, 0)
	want(t, s.AwaitEvents(ctx, last), storage.ErrUnavailable)
}

// TestAwaitWhenNobodyAnswers: whoever waits is told that nobody knows, in
// bounded time, and may wait again.
func TestAwaitWhenNobodyAnswers(t *testing.T) {
	server := redistest.Single(t, "--appendfsync", "always")
	s := open(t, with("redis://"+server.Addr, "timeout=300ms"))
	check(t, s.AppendEvents(t.Context(), []storage.Event{event("a")}, start))
	_, last := follow(t, s, "")
	for name, fault := range map[string]struct{ begin, end func() }{
		"hangs": {server.Pause, server.Resume}, "is gone": {server.Kill, server.Start},
	} {
		t.Run(name, func(t *testing.T) {
			done := await(t, s, last)
			blocked(t, server, 1)
			began := time.Now()
			fault.begin()
			want(t, <-done, storage.ErrUnavailable)
			if took := time.Since(began); took > bound {
				t.Errorf("it took %s", took)
			}
			fault.end()
			eventually(t, "it answers", func() bool { return s.Ready(t.Context()) == nil })
			done = await(t, s, last)
			check(t, s.AppendEvents(t.Context(), []storage.Event{event(name)}, start))
			check(t, <-done)
			var got []string
			if got, last = follow(t, s, last); len(got) != 1 || got[0] != name {
				t.Errorf("got %v", got)
			}
		})
	}
}

// lost appends an event to a primary alone, and returns the place of whoever
// has read it.
func lost(t *testing.T, s *redis.Store, primary *redistest.Server, id string) storage.Cursor {
	t.Helper()
	do(t, primary, "EVAL", "redis.set_repl(redis.REPL_NONE) return redis.call('XADD', KEYS[1], ARGV[1], 'i', 'lost', 'k', 'grant', 's', 'x', 'e', 0, 'b', 1, 'u', 1, 'r', '', 'a', '', 'l', 300000)", "1", "sg:{e}events", id)
	got, at := follow(t, s, "")
	if got[len(got)-1] != "lost" {
		t.Fatalf("read: %v", got)
	}
	return at
}

// TestEventIsLostInAFailover: somebody has read an event that nobody had
// acknowledged, and that is lost. What the next primary appends is at places
// before it, or after it; the reader learns of it in both cases.
func TestEventIsLostInAFailover(t *testing.T) {
	for name, id := range map[string]string{"ClockWasAhead": "9000000000000-7", "ClocksAgree": "*"} {
		t.Run(name, func(t *testing.T) {
			servers := redistest.NewSentinel(t)
			s := open(t, servers.URL())
			ctx := t.Context()
			check(t, s.AppendEvents(ctx, []storage.Event{event("a"), event("b")}, start))
			old := servers.Primary()
			replica := servers.Servers[0]
			if replica == old {
				replica = servers.Servers[1]
			}
			at := lost(t, s, old, id)
			done := await(t, s, at)
			blocked(t, old, 1)
			old.Kill()
			eventually(t, "the Sentinels promote the replica", func() bool { return servers.Primary() == replica && info(t, replica, "role") == "master" })
			for err := range waits(ctx, done, s, at) {
				if !errors.Is(err, storage.ErrUnavailable) {
					want(t, err, storage.ErrCursor)
					break
				}
			}
			old.Start()
			eventually(t, "there is a replica", func() bool { return s.Ready(ctx) == nil })
			check(t, s.AppendEvents(ctx, []storage.Event{event("c"), event("d")}, start))
			_, _, err := s.Events(ctx, at, 10)
			want(t, err, storage.ErrCursor)
			if got, _ := follow(t, s, ""); strings.Join(got, "") != "abcd" {
				t.Errorf("there are %v", got)
			}
		})
	}
}

// waits yields how one wait ended, and then how others at the same place do.
func waits(ctx context.Context, first <-chan error, s storage.Store, at storage.Cursor) func(func(error) bool) {
	return func(yield func(error) bool) {
		for err := <-first; yield(err); {
			err = s.AwaitEvents(ctx, at)
		}
	}
}

// TestEventPlaceIsGivenAgain: another event is where one was that is lost.
func TestEventPlaceIsGivenAgain(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	add := func(id string) {
		do(t, server, "XADD", "sg:{e}events", "7-"+id, "i", t.Name()+do(t, server, "INCR", "n"), "k", "grant", "s", "x", "e", "0", "b", "1", "u", "1", "r", "", "a", "", "l", "300000")
	}
	add("1")
	add("2")
	_, at := follow(t, s, "")
	do(t, server, "DEL", "sg:{e}events") // with all that was known of it
	done := await(t, s, at)
	want(t, <-done, storage.ErrCursor)
	add("1")
	add("2")
	add("3")
	_, _, err := s.Events(t.Context(), at, 10)
	want(t, err, storage.ErrCursor)
	check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
}
