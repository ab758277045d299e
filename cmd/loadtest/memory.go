package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

// memoryRefreshes is how many refreshes the memory is watched over, and
// memorySteps how often it is looked at.
const (
	memoryRefreshes = 200_000
	memorySteps     = 5
)

// watchMemory refreshes, and prints the server's memory and the size of its
// file on the way: neither may grow with use.
func watchMemory(ctx context.Context, w *world, o options, out io.Writer) error {
	total := memoryRefreshes
	if o.requests > 0 {
		total = o.requests
	}
	r := newTrial(w.target, o)
	r.limit = limit{operations: o.grants}
	for _, get := range []func(*trial, context.Context) result{(*trial).authorize, (*trial).exchange} {
		if got := get(r, ctx); got.errors > 0 {
			return fmt.Errorf("no grants to begin with: %w", got.first)
		}
	}
	fmt.Fprintf(out, "\n%10s %9s %9s %12s %12s\n", "refreshes", "per s", "p99", "memory", "database")
	line := func(done int, rate, p99 string) error {
		u, err := usageOf(w.server.pid)
		if err != nil {
			return fmt.Errorf("the server's memory can't be read: %w", err)
		}
		size, err := w.size()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%10d %9s %9s %8.1f MiB %8.1f MiB\n", done, rate, p99, float64(u.rss)/(1<<20), float64(size)/(1<<20))
		return err
	}
	if err := line(0, "-", "-"); err != nil {
		return err
	}
	for step := range memorySteps {
		r.limit = limit{operations: total*(step+1)/memorySteps - total*step/memorySteps}
		got := r.refresh(ctx)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if got.errors > 0 {
			return fmt.Errorf("%d refreshes failed: %w", got.errors, got.first)
		}
		if err := line(total*(step+1)/memorySteps, fmt.Sprintf("%.0f", got.rate()), micros(got.latency.quantile(0.99))); err != nil {
			return err
		}
	}
	return nil
}

// size is how much the database takes on disk, with what SQLite keeps beside
// it.
func (w *world) size() (int64, error) {
	var size int64
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(w.store() + suffix)
		if err != nil {
			if os.IsNotExist(err) && suffix != "" {
				continue
			}
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
