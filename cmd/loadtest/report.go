package main

import (
	"fmt"
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
	bare := r.best(bareName)
	fmt.Fprintf(&b, "%-24s %10s %9s %9s %9s %7s %8s %8s  %s\n",
		"", "operations", "per s", "p50", "p99", "errors", "CPU each", "of bare", "aim")
	for _, got := range r {
		share := "-"
		if bare.rate() > 0 && got.name != signName && got.name != verifyName {
			share = fmt.Sprintf("%.1f %%", 100*got.rate()/bare.rate())
		}
		line := fmt.Sprintf("%-24s %10d %9.0f %9s %9s %7d %8s %8s  %s", got.name, got.operations, got.rate(),
			micros(got.latency.quantile(0.5)), micros(got.latency.quantile(0.99)), got.errors,
			micros(got.cpuEach()), share, got.judge(bare.rate()))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if got.first != nil {
			fmt.Fprintf(&b, "  an error: %v\n", got.first)
		}
	}
	if line := r.compareVerification(bare); line != "" {
		b.WriteString("\n" + line + "\n")
	}
	return b.String()
}

// judge says whether the aims were met.
func (r result) judge(bare float64) string {
	var parts []string
	say := func(met bool, text string) {
		if !met {
			text += " MISSED"
		}
		parts = append(parts, text)
	}
	if r.aim.share > 0 {
		say(r.rate() >= r.aim.share*bare, fmt.Sprintf("≥ %.0f %%", 100*r.aim.share))
	}
	if r.aim.p99 > 0 {
		say(r.latency.quantile(0.99) <= r.aim.p99, "p99 ≤ "+micros(r.aim.p99))
	}
	if r.aim.cpu > 0 && r.cpu > 0 {
		say(r.cpuEach() <= r.aim.cpu, "CPU ≤ "+micros(r.aim.cpu))
	}
	return strings.Join(parts, ", ")
}

// compareVerification says what the verifier costs beside the signature that
// it checks: what the API takes for a new token, less the bare handler.
func (r report) compareVerification(bare result) string {
	raw, api := r.best(verifyName).cpuEach(), r.best(newName).cpuEach()
	if raw == 0 || api == 0 || bare.cpu == 0 {
		return ""
	}
	own := max(0, api-bare.cpuEach())
	return fmt.Sprintf("A new token costs the API %s, of which %s is the bare handler: verification is %s, %.2f times the raw one (aim: ≤ 1.15).",
		micros(api), micros(bare.cpuEach()), micros(own), float64(own)/float64(raw))
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
