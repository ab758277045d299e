package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a store, a clock and a structured log.
type world struct {
	testing.TB
	store storage.Store
	ahead atomic.Int64 // of start
	mu    sync.Mutex
	log   bytes.Buffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return &world{TB: t, store: s}
}

func (w *world) now() time.Time          { return start.Add(time.Duration(w.ahead.Load())) }
func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func secret(purpose string) [32]byte {
	return [32]byte([]byte((purpose + strings.Repeat("x", 32))[:32]))
}

// open returns a Log of a process; a server's if it seals.
func (w *world) open(s storage.Audit, seals bool) *Log {
	w.Helper()
	c := Config{Log: slog.New(slog.NewJSONHandler(w, nil)), Store: s, Keep: 24 * time.Hour, Now: w.now}
	if seals {
		c.Secret = secret
	}
	l := New(c)
	l.delay, l.patience = time.Millisecond, 2*time.Millisecond
	w.Cleanup(func() { l.stop() })
	return l
}

func (w *world) close(l *Log) {
	w.Helper()
	check(w, l.Close(w.Context()))
}

// lines reads what is kept.
func (w *world) lines() []Line {
	w.Helper()
	list, err := Search(w.Context(), w.store, Query{Limit: 1 << 20})
	check(w, err)
	return list
}

func whats(list []Line) (all []string) {
	for _, l := range list {
		all = append(all, l.What)
	}
	return all
}

// verify verifies the log with the master key.
func (w *world) verify(heads ...Head) Report {
	w.Helper()
	r, err := Verify(w.Context(), w.store, Verification{Secret: secret, Heads: heads, Now: w.now()})
	check(w, err)
	return r
}

// good checks that the log is whole, whether it has seals or not.
func (w *world) good() {
	w.Helper()
	r, err := Verify(w.Context(), w.store, Verification{Now: w.now()})
	check(w, err)
	if r.Seals > 0 {
		r = w.verify()
	}
	if len(r.Problems) > 0 {
		w.Errorf("problems: %q", r.Problems)
	}
}

var full = Event{
	What: "grant revoked", Client: "spa", User: "u", Session: "u.s", Grant: "u.s.g", Key: "kid", RedirectURI: "https://a.example/<cb>?a&b", Origin: "https://a.example",
	Address: netip.MustParseAddr("2001:db8::1"), OtherAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ResourceServer: "api", JKT: "jkt",
	Rule: "hammering", Reason: "ünï\"", Request: "r", Operator: "cli:alice", Count: 3,
}

// TestWriteIsKept: what was written is in the store, all of it, when Write
// returns, and in the structured log.
func TestWriteIsKept(t *testing.T) {
	w := newWorld(t)
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("the test has no %s", v.Type().Field(i).Name)
		}
	}
	l := w.open(w.store, false)
	check(t, l.Write(t.Context(), full))
	got := w.lines()
	want := []Line{{Seq: 1, At: start, Event: full}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Line{}, "Link"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	stored, err := w.store.AuditLines(t.Context(), 0, 1)
	check(t, err)
	if !stored[0].Until.Equal(start.Add(24 * time.Hour)) {
		t.Errorf("it is kept until %s", stored[0].Until)
	}
	var line map[string]any
	check(t, json.Unmarshal([]byte(w.logged()), &line))
	if line["msg"] != "grant revoked" || line["audit"] != true || line["operator"] != "cli:alice" || line["count"] != 3.0 {
		t.Errorf("the structured log has %v", line)
	}
	w.close(l)
	w.good()
}

// TestOperator: who acts by hand is in every line.
func TestOperator(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	ctx := WithOperator(t.Context(), "cli:alice")
	l.Record(ctx, Event{What: "a"})
	check(t, l.Write(ctx, Event{What: "b"}))
	check(t, l.Write(ctx, Event{What: "c", Operator: "admin:bob"}))
	w.close(l)
	for i, want := range []string{"cli:alice", "cli:alice", "admin:bob"} {
		if got := w.lines()[i].Operator; got != want {
			t.Errorf("line %d is of %q, want %q", i+1, got, want)
		}
	}
}

// TestOnlyStructured: without a store everything works, and nothing is kept.
func TestOnlyStructured(t *testing.T) {
	w := newWorld(t)
	l := w.open(nil, false)
	l.config.Store = nil
	l.Record(t.Context(), Event{What: "a"})
	check(t, l.Write(t.Context(), Event{What: "b"}))
	w.close(l)
	if n := strings.Count(w.logged(), `"audit":true`); n != 2 {
		t.Errorf("there are %d lines in the structured log", n)
	}
}

// TestLongTexts: whatever comes, a line is within its bounds and can be read.
func TestLongTexts(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	for _, filler := range []string{"x", "\x00", "ü", "\xff", "<", "\u2028"} {
		e := full
		v := reflect.ValueOf(&e).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.String {
				f.SetString(strings.Repeat(filler, 100_000))
			}
		}
		e.OtherAddresses = slices.Repeat(full.OtherAddresses, 1000)
		check(t, l.Write(t.Context(), e))
	}
	w.close(l)
	for _, line := range w.lines() {
		if line.What == unreadable || len(line.Reason) == 0 || line.Operator == "" || len(line.OtherAddresses) != maxAddresses {
			t.Errorf("line %d: %.300v", line.Seq, line)
		}
	}
	w.good()
}

// TestRecordDoesNotWait: while the store hangs, Record returns, and what it took
// is there when the store works again.
func TestRecordDoesNotWait(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	s := storagetest.WithFaults(w.store, func(string) storagetest.Outcome { <-hang; return storagetest.Outcome{} })
	l := w.open(s, false)
	for n := range 1000 {
		l.Record(t.Context(), Event{What: fmt.Sprint(n)})
	}
	close(hang)
	w.close(l)
	if got := w.lines(); len(got) != 1000 || got[999].What != "999" || got[0].What != "0" {
		t.Errorf("there are %d lines", len(got))
	}
	w.good()
}

// TestStoreIsAway: lines wait for the store, as many as there is room for; how
// many were lost is a line as well. The structured log has all.
func TestStoreIsAway(t *testing.T) {
	w := newWorld(t)
	var away atomic.Bool
	away.Store(true)
	s := storagetest.WithFaults(w.store, func(string) storagetest.Outcome { return storagetest.Outcome{Fail: away.Load()} })
	l := w.open(s, false)
	const lost = 25
	for n := range maxQueue + lost {
		l.Record(t.Context(), Event{What: fmt.Sprint(n)})
	}
	err := l.Write(t.Context(), Event{What: "decision"})
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a decision that could not be written: %v", err)
	}
	w.advance(time.Hour)
	away.Store(false)
	w.close(l)
	got := w.lines()
	if len(got) != maxQueue+2 {
		t.Fatalf("there are %d lines, want %d", len(got), maxQueue+2)
	}
	if late := got[1000]; got[0].What != "0" || late.What != "1000" || late.Late != time.Hour || !late.At.Equal(start) {
		t.Errorf("the first is %+v, a later one %+v", got[0], late)
	}
	if got[maxQueue].What != "decision" {
		t.Errorf("what was decided is not among them, but %+v", got[maxQueue])
	}
	if last := got[maxQueue+1]; last.What != whatLost || last.Count != lost {
		t.Errorf("the last is %+v", last)
	}
	if n := strings.Count(w.logged(), `"audit":true`); n != maxQueue+lost+1 {
		t.Errorf("the structured log has %d lines", n)
	}
	w.good()
}

// TestClosed: what can't be kept at the end is told, and later events go to the
// structured log.
func TestClosed(t *testing.T) {
	w := newWorld(t)
	l := w.open(storagetest.WithFaults(w.store, func(string) storagetest.Outcome { return storagetest.Outcome{Fail: true} }), false)
	l.Record(t.Context(), Event{What: "a"})
	ending, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Close(ending); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "1 lines") {
		t.Errorf("closed with %v", err)
	}
	l = w.open(w.store, true)
	w.close(l)
	l.Record(t.Context(), Event{What: "late"})
	if err := l.Write(t.Context(), Event{What: "late"}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
	w.close(l)
	if got := whats(w.lines()); !slices.Equal(got, []string{whatSealed}) {
		t.Errorf("there is %q", got)
	}
	if n := strings.Count(w.logged(), `"msg":"late"`); n != 2 {
		t.Errorf("the structured log has it %d times", n)
	}
}

// TestWriteGivesUp: whoever does not wait is told that it is not known.
func TestWriteGivesUp(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	l := w.open(storagetest.WithFaults(w.store, func(string) storagetest.Outcome { <-hang; return storagetest.Outcome{} }), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Write(ctx, Event{What: "a"}); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	close(hang)
	w.close(l)
	if got := whats(w.lines()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("there is %q", got)
	}
}

// TestOneChain: several processes write at once, and answers are lost. Every
// line is there once, each process's in its order, in a chain that is whole.
func TestOneChain(t *testing.T) {
	w := newWorld(t)
	const processes, each = 4, 300
	var n atomic.Int64
	s := storagetest.WithFaults(w.store, func(string) storagetest.Outcome {
		switch n.Add(1) % 5 {
		case 1:
			return storagetest.Outcome{Lose: true}
		case 3:
			return storagetest.Outcome{Fail: true}
		}
		return storagetest.Outcome{}
	})
	var work sync.WaitGroup
	for p := range processes {
		l := w.open(s, p%2 == 0)
		work.Go(func() {
			for i := range each {
				e := Event{What: fmt.Sprintf("%d %d", p, i)}
				if i%50 != 0 {
					l.Record(t.Context(), e)
				} else if err := l.Write(t.Context(), e); err != nil && !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrUnknown) {
					t.Error(err)
				}
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	next := [processes]int{}
	for _, line := range w.lines() {
		var p, i int
		if line.What == whatSealed {
			continue
		}
		if _, err := fmt.Sscanf(line.What, "%d %d", &p, &i); err != nil || i != next[p] {
			t.Fatalf("line %d is %q, the next of that process is %d", line.Seq, line.What, next[p])
		}
		next[p]++
	}
	for p, got := range next {
		if got != each {
			t.Errorf("of process %d there are %d lines", p, got)
		}
	}
	w.good()
}

// TestKeptAtLeastAsLong: a clock that is set back, or another setting, leaves no
// line that could go before the one in front of it.
func TestKeptAtLeastAsLong(t *testing.T) {
	w := newWorld(t)
	write := func(keep time.Duration) {
		t.Helper()
		l := w.open(w.store, false)
		l.config.Keep = keep
		check(t, l.Write(t.Context(), Event{What: "x"}))
	}
	write(24 * time.Hour)
	w.advance(-12 * time.Hour)
	write(24 * time.Hour)
	write(time.Hour)
	w.advance(time.Hour)
	write(0)
	write(time.Hour)
	lines, err := w.store.AuditLines(t.Context(), 0, 10)
	check(t, err)
	day := start.Add(24 * time.Hour)
	for i, want := range []time.Time{day, day, day, {}, {}} {
		if !lines[i].Until.Equal(want) {
			t.Errorf("line %d is kept until %s, want %s", i+1, lines[i].Until, want)
		}
	}
	w.good()
}

// TestEveryoneHasATurn: however many processes write all the time, none of them
// always comes too late. On Redis, where the one that was last is the fastest.
func TestEveryoneHasATurn(t *testing.T) {
	server := redistest.Single(t)
	var work sync.WaitGroup
	var last *redis.Store
	const processes, callers, each = 3, 4, 100
	for range processes {
		s, err := redis.Open(t.Context(), redis.Config{URL: "redis://" + server.Addr})
		check(t, err)
		defer s.Close()
		last = s
		l := New(Config{Store: s, Keep: time.Hour, Secret: secret})
		var writing sync.WaitGroup
		for range callers {
			writing.Go(func() {
				for n := range each {
					if err := l.Write(t.Context(), Event{What: fmt.Sprint(n)}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		work.Go(func() {
			writing.Wait()
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	r, err := Verify(t.Context(), last, Verification{Secret: secret, Now: time.Now()})
	check(t, err)
	if len(r.Problems) > 0 || r.Lines != processes*(callers*each+1) {
		t.Errorf("%d lines: %q", r.Lines, r.Problems)
	}
}
