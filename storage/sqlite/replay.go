package sqlite

import (
	"context"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// Once implements [storage.Replays].
func (s *Store) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtOnce, key[:], record.Nanos(now), record.Nanos(until))
		if err == nil && changed == 0 {
			return storage.ErrExists
		}
		return err
	})
}
