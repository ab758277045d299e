package storage

import (
	"context"
	"time"
)

// Replays remembers what may be used once.
type Replays interface {
	// Once remembers key until the given time: exactly one of any number of
	// callers gets nil, every other one, until then, ErrExists. Later it may
	// be forgotten. What it remembers may be lost in a crash or a failover,
	// like a count: whatever it protects lives for a minute or so.
	Once(ctx context.Context, key [32]byte, now, until time.Time) error
}
