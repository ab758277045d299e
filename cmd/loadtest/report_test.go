package main

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	measured := func(name string, operations int, each, cpu time.Duration, aim aim) result {
		r := result{name: name, operations: operations, elapsed: time.Second, cpu: cpu * time.Duration(operations), aim: aim}
		for range operations {
			r.latency.add(each)
		}
		return r
	}
	failed := measured("code exchange", 500, time.Millisecond, 400*time.Microsecond, aim{share: 0.06})
	failed.errors, failed.first = 2, errors.New("answered 503 (temporarily_unavailable), 200 expected")
	failed.others = time.Duration(runtime.NumCPU()) * time.Second / 4
	r := report{
		measured(bareName, 9000, 64*time.Microsecond, 10*time.Microsecond, aim{}),
		measured(verifyName, 4000, 64*time.Microsecond, 100*time.Microsecond, aim{}),
		measured("refresh with rotation", 900, 32*time.Millisecond, 150*time.Microsecond, aim{share: 0.09, p99: 20 * time.Millisecond, cpu: 180 * time.Microsecond}),
		failed,
		measured("middleware, new token", 5000, 128*time.Microsecond, 112*time.Microsecond, aim{raw: 1.15}),
		measured(bareName, 10000, 64*time.Microsecond, 10*time.Microsecond, aim{}),
	}
	r[0].late, r[2].late = 90, 10
	r[2].cpu, r[2].store = 900*120*time.Microsecond, 900*30*time.Microsecond
	r[1].inside, r[4].inside = true, true
	const want = `                             operations     per s       p50       p99  errors CPU each of store  of bare  aim
bare handler                       9000      9000  64.51 µs  64.51 µs       0    10 µs        -   90.0 %
raw ES256 verification             4000      4000  64.51 µs  64.51 µs       0   100 µs        -        -
refresh with rotation               900       900  32.24 ms  32.24 ms       0   150 µs    30 µs    9.0 %  ≥ 9 %, p99 ≤ 20 ms MISSED, CPU ≤ 180 µs
  10 of the proofs were signed meanwhile: the generator's work makes the rate too low
code exchange                       500       500   1008 µs   1008 µs       2   400 µs        -    5.0 %  ≥ 6 % MISSED
  an error: answered 503 (temporarily_unavailable), 200 expected
middleware, new token              5000      5000    129 µs    129 µs       0   112 µs        -        -  CPU ≤ 1.15 × raw (1.12)
bare handler                      10000     10000  64.51 µs  64.51 µs       0    10 µs        -  100.0 %

Other programs took up to 25 % of the machine meanwhile: the rates are too low and vary.
`
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r.failed() != 2 {
		t.Errorf("%d operations failed, 2 expected", r.failed())
	}
}

func TestReportWithoutCPUTimes(t *testing.T) {
	r := report{{name: bareName, operations: 10, elapsed: time.Second}, {name: "refresh", operations: 1, elapsed: time.Second, aim: aim{cpu: time.Microsecond, raw: 1}}}
	if text := r.String(); strings.Contains(text, "MISSED") || strings.Contains(text, "Other") {
		t.Errorf("what could not be measured was judged:\n%s", text)
	}
}
