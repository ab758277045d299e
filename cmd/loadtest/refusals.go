package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// What revocation should reach, from the return of the command to the refusal
// by the slowest API.
const (
	aimMedian = 100 * time.Millisecond
	aimP99    = time.Second
)

// revocations is what the scenario gave; its String is the tables.
type revocations struct {
	o        options
	refusals []refusal
	carried  carried
	used     groups // of CPU time
	memory   []memory
	passed   int // requests that passed when all was over
}

// err says what must never be: somebody who was blocked and got through, or
// whom nobody blocked and who did not.
func (v *revocations) err() error {
	var failed int
	var first error
	for _, f := range v.refusals {
		if f.err != nil {
			failed++
			first = fmt.Errorf("%s: %w", f.name, f.err)
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d people who were to be blocked were not refused everywhere: %w", failed, len(v.refusals), first)
	case v.passed > 0:
		return fmt.Errorf("%d requests of people who are blocked were not refused as revoked", v.passed)
	}
	if n := v.carried.refreshes.errors + v.carried.calls.errors; n > 0 && !v.o.chaos {
		return fmt.Errorf("%d operations of the load failed", n)
	}
	return nil
}

func (v *revocations) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-44s %6s %9s %9s %9s  %s\n", "", "people", "p50", "p99", "max", "aim")
	row := func(name string, aims bool, which func(*refusal) bool, span func(*refusal) (from, to time.Time)) {
		var all times
		for i := range v.refusals {
			if f := &v.refusals[i]; f.err == nil && which(f) {
				if from, to := span(f); !from.IsZero() && !to.IsZero() {
					all = append(all, max(0, to.Sub(from)))
				}
			}
		}
		slices.Sort(all)
		line := fmt.Sprintf("%-44s %6d %9s %9s %9s", name, len(all), all.quantile(0.5), all.quantile(0.99), all.quantile(1))
		if aims {
			line += "  " + all.judge()
		}
		fmt.Fprintln(&b, line)
	}
	everybody := func(*refusal) bool { return true }
	by := func(w way) func(*refusal) bool { return func(f *refusal) bool { return f.way == w } }
	refused := func(f *refusal) (time.Time, time.Time) { return f.returned, f.last() }
	row("blocked → refused by every API", true, everybody, refused)
	row("  by solegate user block, until it has ended", false, by(byCommand), refused)
	row("  by the operator's API", false, by(byAPI), refused)
	row("  by a process that stays", false, by(byFunction), refused)
	row("    event → lasting in the store", false, by(byFunction), func(f *refusal) (time.Time, time.Time) { return f.event, f.lasting })
	row("    lasting → blocked", false, by(byFunction), func(f *refusal) (time.Time, time.Time) { return f.lasting, f.returned })
	row("    lasting → read by another process", false, by(byFunction), func(f *refusal) (time.Time, time.Time) { return f.lasting, f.read })
	row("    lasting → refused by the first API", false, by(byFunction), func(f *refusal) (time.Time, time.Time) { return f.lasting, f.first() })
	row("    lasting → refused by every API", false, by(byFunction), func(f *refusal) (time.Time, time.Time) { return f.lasting, f.last() })
	row("between two looks, at the slowest API", false, everybody, (*refusal).widest)
	b.WriteString("0 ms: every API refused before the command was done, or the answer there.\n")
	v.load(&b)
	return b.String()
}

// load writes what else the replicas did, and what all of it took.
func (v *revocations) load(b *strings.Builder) {
	fmt.Fprintf(b, "\n%-28s %10s %9s %9s %9s %7s\n", "meanwhile", "operations", "per s", "p50", "p99", "errors")
	for _, got := range []result{v.carried.refreshes, v.carried.calls} {
		fmt.Fprintf(b, "%-28s %10d %9.0f %9s %9s %7d\n", got.name, got.operations, got.rate(),
			micros(got.latency.quantile(0.5)), micros(got.latency.quantile(0.99)), got.errors)
		if got.first != nil {
			fmt.Fprintf(b, "  an error: %v\n", got.first)
		}
	}
	if whole := v.carried.refreshes.elapsed * time.Duration(runtime.NumCPU()); whole > 0 && v.used.all > 0 {
		share := func(d time.Duration) string { return fmt.Sprintf("%.0f %%", 100*max(0, d.Seconds())/whole.Seconds()) }
		u := v.used
		fmt.Fprintf(b, "\nOf the machine: servers %s, APIs %s, Redis %s, the load %s, solegate user block %s, other programs %s\n",
			share(u.servers), share(u.apis), share(u.store), share(u.load), share(u.commands), share(u.all-u.servers-u.apis-u.store-u.load-u.commands))
	}
	fmt.Fprintf(b, "\n%-28s %10s %10s %10s %10s\n", "memory", "revoked", "a server", "an API", "Redis")
	for _, m := range v.memory {
		fmt.Fprintf(b, "%-28s %10d %10s %10s %10s\n", m.when, m.events, mebibytes(m.server), mebibytes(m.api), mebibytes(m.store))
	}
}

// times are in order.
type times []time.Duration

// quantile is what the share q of them stayed within.
func (t times) quantile(q float64) millis {
	if len(t) == 0 {
		return unknown
	}
	return millis(t[min(int(q*float64(len(t))), len(t)-1)])
}

func (t times) judge() string {
	say := func(name string, got, want millis) string {
		text := fmt.Sprintf("%s ≤ %s", name, want)
		if got > want || got == unknown {
			text += " MISSED"
		}
		return text
	}
	return say("p50", t.quantile(0.5), millis(aimMedian)) + ", " + say("p99", t.quantile(0.99), millis(aimP99))
}

// millis is a duration as the table has it.
type millis time.Duration

// unknown is of nothing.
const unknown millis = -1

func (d millis) String() string {
	if d == unknown {
		return "-"
	}
	return fmt.Sprintf("%.4g ms", float64(time.Duration(d).Round(10*time.Microsecond))/1e6)
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// groups are CPU times.
type groups struct {
	servers, apis, store time.Duration
	load, commands       time.Duration // of this process, and of those that it started and that ended
	all                  time.Duration // of the whole machine
}

// usage reads the CPU time that each group has used; zeros where it can't be
// read.
func (r *replicas) usage() groups {
	self, _ := usageOf(os.Getpid())
	g := groups{store: usageOrNone(r.storePID), load: self.cpu, commands: self.children, all: look(0).machine}
	for _, s := range r.servers {
		g.servers += usageOrNone(s.pid)
	}
	for _, a := range r.apis {
		g.apis += usageOrNone(a.pid)
	}
	return g
}

func (g groups) since(before groups) groups {
	return groups{
		g.servers - before.servers, g.apis - before.apis, g.store - before.store,
		g.load - before.load, g.commands - before.commands, g.all - before.all,
	}
}
