// Loadtest measures a running Solegate over HTTP, beside a bare net/http
// handler and a raw ES256 signature in the same run. It is what `make bench`
// runs:
//
//	loadtest --server bin/solegate                  # 16 workers, 5 seconds each
//	loadtest --server bin/solegate --workers 4 --duration 10s
//	loadtest --server bin/solegate --requests 1000  # as many of each, however long it takes
//	loadtest --server bin/solegate --memory         # 200,000 refreshes: does memory stay flat?
//
// It starts the server with its default configuration, in development mode on
// loopback, on an SQLite file of its own; registers one client and one person;
// logs in once; and removes everything at the end. The server, the bare
// handler and the API are processes of their own, so the CPU time of each is
// read from outside, and none runs beside another under load.
//
// The numbers say what two cores do that the generator shares with the server:
// its own work is part of the rate, though not of the CPU per operation. It
// speaks HTTP/1.1 on one connection per worker and does as little as it can.
// The bare handler's rate is the better one of two measurements, before and
// after everything else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Bounds of the flags. A code lives 60 seconds: those of the exchange are
// collected for one duration before it.
const (
	maxWorkers  = 1024
	maxDuration = 30 * time.Second
	maxRequests = 10_000_000
)

type options struct {
	server   string
	dir      string
	workers  int
	duration time.Duration
	requests int
	grants   int
	memory   bool
	store    string
	// population is how many grants are in the store beside those in use.
	population int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run returns the exit code: 0, 1 for a failure or any operation that failed,
// 2 for flags that make no sense.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == bareMode:
		err = serveBare(stdin, stdout)
	case len(args) == 3 && args[0] == apiMode:
		err = serveAPI(ctx, stdin, stdout, args[1], args[2])
	default:
		var o options
		if o, err = parse(args, stderr); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return 0
			}
			fmt.Fprintln(stderr, "loadtest:", err)
			return 2
		}
		err = measure(ctx, o, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.server, "server", "", "the `program` solegate, required")
	f.StringVar(&o.dir, "dir", "", "`folder` for the data, on a disk and not in memory (default: the program's)")
	f.IntVar(&o.workers, "workers", 16, "how many requests are under way at once")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "how long each measurement takes, at most 30s")
	f.IntVar(&o.requests, "requests", 0, "how many operations each measurement takes, instead of a duration")
	f.IntVar(&o.grants, "grants", 1000, "how many refresh token families take turns")
	f.BoolVar(&o.memory, "memory", false, "watch the server's memory over 200,000 refreshes, or over --requests")
	f.StringVar(&o.store, "store", "sqlite", "what to keep everything in: sqlite, or redis for a server of its own")
	f.IntVar(&o.population, "population", 0, "how many grants are there beside those in use, only with --store redis")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.dir == "" {
		o.dir = filepath.Dir(o.server)
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: loadtest --help names the flags", f.Arg(0))
	case o.server == "":
		return o, errors.New("--server is missing: build the server with make build, then say --server bin/solegate")
	case o.workers < 1 || o.workers > maxWorkers:
		return o, fmt.Errorf("--workers is %d: set it between 1 and %d", o.workers, maxWorkers)
	case o.duration < 100*time.Millisecond || o.duration > maxDuration:
		return o, fmt.Errorf("--duration is %s: set it between 100ms and %s", o.duration, maxDuration)
	case o.requests < 0 || o.requests > maxRequests:
		return o, fmt.Errorf("--requests is %d: set it between 0 and %d", o.requests, maxRequests)
	case o.store != "sqlite" && o.store != "redis":
		return o, fmt.Errorf("--store is %q: sqlite or redis", o.store)
	case o.population < 0 || o.population > maxRequests || o.population > 0 && (o.store != "redis" || o.memory):
		return o, fmt.Errorf("--population is %d: up to %d, with --store redis and without --memory", o.population, maxRequests)
	case o.grants < o.workers || o.grants > 100_000:
		return o, fmt.Errorf("--grants is %d: set it between the number of workers (%d) and 100000", o.grants, o.workers)
	}
	return o, nil
}

// measure runs everything and prints it.
func measure(ctx context.Context, o options, out io.Writer) (err error) {
	world, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.close(err != nil && ctx.Err() == nil)) }()

	fmt.Fprint(out, world.describe(o))
	if o.population > 0 {
		if err := world.populate(ctx, o.population, out); err != nil {
			return err
		}
	}
	if o.memory {
		return watchMemory(ctx, world, o, out)
	}
	report, err := measureAll(ctx, world.target, o, func(name string) { fmt.Fprintf(out, "%s …\n", name) })
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\n", report)
	if n := report.failed(); n > 0 {
		return fmt.Errorf("%d operations failed", n)
	}
	return nil
}
