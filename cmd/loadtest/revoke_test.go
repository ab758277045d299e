package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRevocations blocks a few people with real servers and real APIs. With the
// chaos a server is killed on the way, and the Redis: no block that was
// acknowledged is lost.
func TestRevocations(t *testing.T) {
	program := filepath.Join(t.TempDir(), "solegate")
	build(t, program)
	small := strings.Fields("--server " + program + " --workers 2 --grants 6 --refreshes 20 --calls 20")
	for _, test := range []struct {
		args string
		all  string // how many are refused everywhere
		held string // how many revocations an API holds at the end
	}{
		{"--revocations 5 --servers 1 --apis 2", "5", "5"},
		{"--revocations 9 --servers 2 --apis 2 --chaos", "9", "9"},
		{"--revocations 9 --servers 2 --apis 2 --chaos --store redis", "9", "9"},
		{"--revocations 5 --servers 1 --apis 1 --population 3000", "5", "3005"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(small, strings.Fields(test.args)...), strings.NewReader(""), &stdout, &stderr)
		if code != 0 || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", test.args, code, &stderr)
		}
		for _, line := range []string{
			`(?m)^blocked → refused by every API +` + test.all + ` .*p50 ≤ 100 ms.*, p99 ≤ 1000 ms`,
			`(?m)^  by solegate user block, until it has ended +[1-9]`, `(?m)^  by the operator's API +[1-9]`, `(?m)^    lasting → refused by every API +[1-9]`,
			`(?m)^at the end +` + test.held + ` `, `(?m)^refresh with rotation +[1-9]`, `(?m)^request at an API +[1-9][0-9]* .* 0$`,
		} {
			if !regexp.MustCompile(line).Match(stdout.Bytes()) {
				t.Errorf("%s: no line like %s in\n%s", test.args, line, &stdout)
			}
		}
	}
	wantAlone(t, program)
}

// TestRevocationsTable: times count from the return of the command to the last
// API, and never less than nothing.
func TestRevocationsTable(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(ms ...int) (list []sight) {
		for _, n := range ms {
			refused := start.Add(time.Duration(n) * time.Millisecond)
			list = append(list, sight{refused.Add(-time.Millisecond), refused})
		}
		return list
	}
	later := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	v := &revocations{o: options{servers: 3, apis: 2}, refusals: []refusal{
		{way: byCommand, event: start, read: later(20), returned: later(60), seen: at(30, 55)},
		{way: byFunction, event: start, lasting: later(2), read: later(12), returned: later(10), seen: at(30, 60)},
		{way: byFunction, event: start, lasting: later(4), read: later(54), returned: later(20), seen: at(1300, 50)},
		{err: errors.New("not refused")},
	}, memory: []memory{{"at the end", 3, 3 << 20, 1 << 20, 0}}}
	v.carried = carried{result{name: "refresh with rotation", operations: 10, elapsed: 2 * time.Second, errors: 1, first: errors.New("answered 503")}, result{name: "request at an API"}}
	const want = `                                             people       p50       p99       max  aim
blocked → refused by every API                    3     50 ms   1280 ms   1280 ms  p50 ≤ 100 ms, p99 ≤ 1000 ms MISSED
  by solegate user block, until it has ended      1      0 ms      0 ms      0 ms
  by the operator's API                           0         -         -         -
  by a process that stays                         2   1280 ms   1280 ms   1280 ms
    event → lasting in the store                  2      4 ms      4 ms      4 ms
    lasting → blocked                             2     16 ms     16 ms     16 ms
    lasting → read by another process             2     50 ms     50 ms     50 ms
    lasting → refused by the first API            2     46 ms     46 ms     46 ms
    lasting → refused by every API                2   1296 ms   1296 ms   1296 ms
between two looks, at the slowest API             3      1 ms      1 ms      1 ms
0 ms: every API refused before the command was done, or the answer there.

meanwhile                    operations     per s       p50       p99  errors
refresh with rotation                10         5         -         -       1
  an error: answered 503
request at an API                     0         0         -         -       0

memory                          revoked   a server     an API      Redis
at the end                            3    3.0 MiB    1.0 MiB          -
`
	if diff := cmp.Diff(want, v.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := v.err(); err == nil || !strings.Contains(err.Error(), "1 of 4") {
		t.Errorf("somebody was not refused: %v", err)
	}
	v.refusals = v.refusals[:3]
	if err := v.err(); err == nil || !strings.Contains(err.Error(), "1 operations of the load") {
		t.Errorf("the load failed: %v", err)
	}
	v.o.chaos = true
	if err := v.err(); err != nil {
		t.Errorf("the load failed by chaos: %v", err)
	}
	v.passed = 1
	if err := v.err(); err == nil || !strings.Contains(err.Error(), "1 requests") {
		t.Errorf("somebody passed in the end: %v", err)
	}
}

func TestSight(t *testing.T) {
	want := sight{time.Unix(0, 1), time.Unix(1_800_000_000, 2)}
	if got, err := parseSight(want.String()); err != nil || got != want {
		t.Errorf("%+v, %v; %+v expected", got, err, want)
	}
	for _, line := range []string{"", "1\n", "1 x\n", passes} {
		if got, err := parseSight(line); err == nil {
			t.Errorf("%q gave %+v, an error expected", line, got)
		}
	}
}

// TestPacedLoad: an operation is due at its time, and one that had to wait for
// the one before counts its wait.
func TestPacedLoad(t *testing.T) {
	first := true
	got := load(t.Context(), 1, limit{operations: 3, every: 20 * time.Millisecond}, "", func(*worker) error {
		if first {
			first = false
			return wait(t.Context(), 60*time.Millisecond)
		}
		return nil
	})
	if got.elapsed < 60*time.Millisecond || got.latency.quantile(0.4) < 15*time.Millisecond {
		t.Errorf("%s in all, the least latency is %s", got.elapsed, got.latency.quantile(0))
	}
}
