// Loadtest measures a running Solegate over HTTP, beside a bare net/http
// handler and a raw ES256 signature in the same run. It is what `make bench`
// runs:
//
//	loadtest --server bin/solegate                  # 16 workers, 5 seconds each
//	loadtest --server bin/solegate --workers 4 --duration 10s
//	loadtest --server bin/solegate --requests 1000  # as many of each, however long it takes
//	loadtest --server bin/solegate --memory         # 200,000 refreshes: does memory stay flat?
//
// and how soon a block is everywhere, while three servers on one store and five
// APIs, each a process of its own, are under load:
//
//	loadtest --server bin/solegate --revocations 1000                 # SQLite
//	loadtest --server bin/solegate --revocations 1000 --store redis
//	loadtest --server bin/solegate --revocations 1000 --chaos         # kill -9 on the way; nothing may be lost
//	loadtest --server bin/solegate --revocations 100 --population 1000000
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
	maxPeople   = 20_000
	maxReplicas = 16
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
	// population is how many grants are in the store beside those in use, or
	// how many revocations of before.
	population int

	// Of the revocation scenario.
	revocations      int // 0: the other scenarios
	servers, apis    int
	refreshes, calls int // a second, at each server and at each API
	chaos            bool
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
	case len(args) == 2 && args[0] == followMode:
		err = serveFollowing(ctx, stdin, stdout, args[1])
	case len(args) == 2 && args[0] == operateMode:
		err = serveOperator(ctx, stdin, stdout, args[1])
	default:
		var o options
		if o, err = parse(args, stderr); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return 0
			}
			fmt.Fprintln(stderr, "loadtest:", err)
			return 2
		}
		if o.revocations > 0 {
			err = measureRevocations(ctx, o, stdout)
		} else {
			err = measure(ctx, o, stdout)
		}
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
	f.IntVar(&o.population, "population", 0, "how many grants are there beside those in use, only with --store redis; with --revocations, how many were revoked before")
	f.IntVar(&o.revocations, "revocations", 0, "measure instead how soon each API refuses so many people who are blocked")
	f.IntVar(&o.servers, "servers", 3, "with --revocations: servers on one store")
	f.IntVar(&o.apis, "apis", 5, "with --revocations: APIs that follow the feed")
	f.IntVar(&o.refreshes, "refreshes", 200, "with --revocations: refreshes a second at each server")
	f.IntVar(&o.calls, "calls", 400, "with --revocations: requests a second at each API")
	f.BoolVar(&o.chaos, "chaos", false, "with --revocations: kill -9 a server, and the Redis, on the way")
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
	case o.population < 0 || o.population > maxRequests || o.population > 0 && (o.store != "redis" && o.revocations == 0 || o.memory):
		return o, fmt.Errorf("--population is %d: up to %d, with --store redis or --revocations, and without --memory", o.population, maxRequests)
	case o.revocations < 0 || o.revocations > maxPeople || o.revocations > 0 && o.memory:
		return o, fmt.Errorf("--revocations is %d: up to %d, without --memory", o.revocations, maxPeople)
	case o.servers < 1 || o.servers > maxReplicas || o.apis < 1 || o.apis > maxReplicas:
		return o, fmt.Errorf("--servers is %d and --apis %d: set each between 1 and %d", o.servers, o.apis, maxReplicas)
	case o.refreshes < 1 || o.refreshes > maxRequests || o.calls < 1 || o.calls > maxRequests:
		return o, fmt.Errorf("--refreshes is %d and --calls %d: set each between 1 and %d", o.refreshes, o.calls, maxRequests)
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
