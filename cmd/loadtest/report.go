package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// report is the results in their order; its String is the table.
type report []result

func (r report) failed() int {
	n := 0
	for _, got := range r {
		n += got.errors
	}
	return n
}

// best is the result of that name with the highest rate.
func (r report) best(name string) result {
	var best result
	for _, got := range r {
		if got.name == name && got.rate() >= best.rate() {
			best = got
		}
	}
	return best
}

func (r report) String() string {
	var b strings.Builder
	bare, raw := r.best(bareName), r.best(verifyName)
	fmt.Fprintf(&b, "%-28s %10s %9s %9s %9s %7s %8s %8s %8s  %s\n",
		"", "operations", "per s", "p50", "p99", "errors", "CPU each", "of store", "of bare", "aim")
	for _, got := range r {
		share := "-"
		if bare.rate() > 0 && !got.inside {
			share = fmt.Sprintf("%.1f %%", 100*got.rate()/bare.rate())
		}
		line := fmt.Sprintf("%-28s %10d %9.0f %9s %9s %7d %8s %8s %8s  %s", got.name, got.operations, got.rate(),
			micros(got.latency.quantile(0.5)), micros(got.latency.quantile(0.99)), got.errors,
			micros(got.cpuEach()), micros(got.storeEach()), share, got.judge(bare, raw))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if 100*got.late > got.operations {
			fmt.Fprintf(&b, "  %d of the proofs were signed meanwhile: the generator's work makes the rate too low\n", got.late)
		}
		if got.first != nil {
			fmt.Fprintf(&b, "  an error: %v\n", got.first)
		}
	}
	if share := r.others(); share > 0.05 {
		fmt.Fprintf(&b, "\nOther programs took up to %.0f %% of the machine meanwhile: the rates are too low and vary.\n", 100*share)
	}
	return b.String()
}

// others is the largest share of the machine that other programs took during
// one measurement.
func (r report) others() float64 {
	most := 0.0
	for _, got := range r {
		if got.elapsed >= time.Second { // clock ticks are too coarse for less
			most = max(most, float64(got.others)/float64(got.elapsed)/float64(runtime.NumCPU()))
		}
	}
	return most
}

// judge says whether the aims were met.
func (r result) judge(bare, raw result) string {
	var parts []string
	say := func(met bool, text string) {
		if !met {
			text += " MISSED"
		}
		parts = append(parts, text)
	}
	if r.aim.share > 0 {
		say(r.rate() >= r.aim.share*bare.rate(), fmt.Sprintf("≥ %.0f %%", 100*r.aim.share))
	}
	if r.aim.p99 > 0 {
		say(r.latency.quantile(0.99) <= r.aim.p99, "p99 ≤ "+micros(r.aim.p99))
	}
	if r.aim.cpu > 0 && r.cpu > 0 {
		say(r.cpuEach() <= r.aim.cpu, "CPU ≤ "+micros(r.aim.cpu))
	}
	if r.aim.raw > 0 && r.cpu > 0 && raw.cpu > 0 {
		times := float64(r.cpuEach()) / float64(raw.cpuEach())
		say(times <= r.aim.raw, fmt.Sprintf("CPU ≤ %.2f × raw (%.2f)", r.aim.raw, times))
	}
	return strings.Join(parts, ", ")
}

// micros is a duration as the table has it.
func micros(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.4g µs", float64(d)/1000)
	default:
		return fmt.Sprintf("%.4g ms", float64(d)/1e6)
	}
}
