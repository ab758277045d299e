package redis

import (
	"context"
	"time"
)

// Once implements [storage.Replays]. It is never repeated: who can't tell its
// own use from another's must not let either pass. A server whose clock is
// ahead must not end what is remembered for one whose clock is not.
func (s *Store) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	life := max(until.Sub(now), 0) + clockMargin
	return s.do(ctx, write{script: onceScript, keys: []string{s.replayKey(key)}, args: []any{life.Milliseconds()}})
}
