package storage

import (
	"context"
	"time"
)

// Tally is what a counter says: how much was counted in the window that now
// falls in, and in the one before it. Windows are aligned to the Unix epoch.
type Tally struct {
	Current, Previous int
}

// Counters counts for throttles. A count may be lost in a crash.
type Counters interface {
	// Count adds n (0 only reads, -1 takes back) to the counter of key in the window of the
	// given length that now falls in, atomically, and returns the Tally with
	// n in it. Keys hold no personal data in the clear: callers hash.
	Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (Tally, error)
}
