package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// KeyRing implements [storage.Keys].
func (s *Store) KeyRing(ctx context.Context) (storage.KeyRing, error) {
	return versioned(ctx, s, stmtKeyRing, func(r *storage.KeyRing, v uint64) { r.Version = v })
}

// PutKeyRing implements [storage.Keys].
func (s *Store) PutKeyRing(ctx context.Context, r storage.KeyRing) error {
	data, err := encode(r)
	if err != nil {
		return err
	}
	return s.do(ctx, func(w *writes) error {
		if r.Version == 0 {
			_, err := w.exec(stmtCreateKeyRing, data)
			if errors.Is(err, storage.ErrExists) {
				return storage.ErrConflict
			}
			return err
		}
		changed, err := w.exec(stmtUpdateKeyRing, data, r.Version)
		if err == nil && changed == 0 {
			return storage.ErrConflict
		}
		return err
	})
}

// Count implements [storage.Counters].
func (s *Store) Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (t storage.Tally, err error) {
	part := now.UnixNano() / int64(window)
	args := []any{key, int64(window), part}
	if n == 0 {
		err = s.row(ctx, stmtTally, args, &t.Current, &t.Previous)
		return t, err
	}
	expires := (part + 2) * int64(window) // it still counts as the previous one until then
	err = s.do(ctx, func(w *writes) error {
		if _, err := w.exec(stmtCount, key, int64(window), part, n, expires); err != nil {
			return err
		}
		return w.row(stmtTally, args, &t.Current, &t.Previous)
	})
	return t, err
}

// Sweep implements [storage.Store].
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	removed := 0
	for _, st := range []statement{stmtSweepGrants, stmtSweepSessions, stmtSweepCounters, stmtSweepReplays, stmtSweepLogouts, stmtSweepEvents, stmtSweepCases, stmtSweepAudit} {
		var n int64
		err := s.do(ctx, func(w *writes) (err error) {
			n, err = w.exec(st, record.Nanos(now), limit-removed)
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += int(n)
	}
	return removed, nil
}
