package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// hold is what the answer to a write waits for.
type hold int

const (
	nothing  hold = iota
	replicas      // have it
	disk          // of the primary has it, and of the replicas
)

// holdOf says it.
func (s *Store) holdOf(w write) hold {
	switch {
	case w.ends && s.fsync > 0:
		return disk
	case w.lasting && s.replicas > 0:
		return replicas
	}
	return nothing
}

// limit is the longest time for one operation, retries and all.
func (s *Store) limit(h hold) time.Duration {
	if h == disk {
		return s.timeout + s.fsync
	}
	return s.timeout
}

// leaders is how many pipelines to one server are under way at once. Those that
// wait for the disk are slow and cost little: whoever waits for another's waits
// for two turns of the disk. But others need connections, too.
func (s *Store) leaders(h hold) int {
	if h == disk {
		return max(1, s.connections/4)
	}
	return maxLeaders
}

// wait adds to a pipeline the command that waits for what was written before,
// on the same connection. The function tells, afterwards, what did not come.
func (s *Store) wait(ctx context.Context, pipe redis.Pipeliner, h hold) func() error {
	switch h {
	case replicas:
		waited := pipe.Do(ctx, "WAIT", s.replicas, (s.timeout / 2).Milliseconds())
		return func() error {
			n, err := waited.Int()
			if err == nil && n < s.replicas {
				err = fmt.Errorf("%d of %d replicas have it after %s", n, s.replicas, s.timeout/2)
			}
			return err
		}
	case disk:
		waited := pipe.Do(ctx, "WAITAOF", 1, s.replicas, s.fsync.Milliseconds())
		return func() error {
			n, err := waited.Int64Slice()
			switch {
			case err != nil:
				return err
			case len(n) != 2:
				return fmt.Errorf("WAITAOF answered %v, two numbers expected", n)
			case n[0] < 1 || n[1] < int64(s.replicas):
				return fmt.Errorf("it is on the disk of %d of 1 primary and %d of %d replicas after %s", n[0], n[1], s.replicas, s.fsync)
			}
			return nil
		}
	}
	return func() error { return nil }
}

// soon is sooner than a server that syncs every second can do it again.
const soon = 600 * time.Millisecond

// inspectDisk looks at what becomes of a write when the machine fails.
func (s *Store) inspectDisk(ctx context.Context, node *redis.Client) error {
	// Not everybody may ask for the configuration; then nothing is said.
	config, err := node.ConfigGet(ctx, "appendfsync").Result()
	policy := config["appendfsync"]
	if s.fsync == 0 {
		if err == nil && policy != "always" && s.replicas == 0 {
			s.log.Warn("appendfsync is not always and no replica is waited for: when the machine itself fails, what was revoked in the last second may come back; set appendfsync always, or the parameter fsync: see the documentation of the store", "server", node.Options().Addr)
		}
		return nil
	}
	if policy == "no" {
		return errors.New("parameter fsync: appendfsync is no, so nobody knows when anything is on disk: set it to everysec or always")
	}
	// The first ends with a turn of the disk, so each of the others takes a
	// whole one. Some releases of Redis 7 and Valkey 8 answer at once, with
	// nothing on disk.
	shortest := s.fsync
	for round := range 3 {
		pipe := node.Pipeline()
		wrote := pipe.Set(ctx, s.readyKey(), "", time.Minute)
		waited := pipe.Do(ctx, "WAITAOF", 1, 0, s.fsync.Milliseconds())
		began := time.Now()
		execute(ctx, pipe)
		if took := time.Since(began); round > 0 {
			shortest = min(shortest, took)
		}
		if err := waited.Err(); err != nil {
			return fmt.Errorf("parameter fsync: the server can't say what is on disk, for which Redis 7.2 or newer or Valkey, and appendonly yes, is needed: %w", err)
		}
		if _, ok := redis.IsMovedError(wrote.Err()); ok {
			return nil // another server of the cluster is asked that
		}
	}
	if policy == "everysec" && shortest < soon {
		return fmt.Errorf("parameter fsync: the server says after %s that something is on disk, though it writes to it once a second: this version says so too soon; use a newer one, or appendfsync always without the parameter", shortest.Round(time.Millisecond))
	}
	return nil
}
