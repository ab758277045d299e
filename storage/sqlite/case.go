package sqlite

import (
	"context"
	"errors"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

func caseVersion(c *storage.Case, v uint64) { c.Version = v }

// Case implements [storage.Cases].
func (s *Store) Case(ctx context.Context, u storage.UserID) (storage.Case, error) {
	return versioned(ctx, s, stmtCase, caseVersion, string(u))
}

// PutCase implements [storage.Cases].
func (s *Store) PutCase(ctx context.Context, c storage.Case) error {
	if err := c.Bounded(); err != nil {
		return err
	}
	data, err := encode(c)
	if err != nil {
		return err
	}
	return s.do(ctx, func(w *writes) error {
		if c.Version > 0 {
			changed, err := w.exec(stmtUpdateCase, data, record.Nanos(c.Expires), string(c.User), c.Version)
			if err == nil && changed == 0 {
				err = storage.ErrConflict
			}
			return err
		}
		_, err := w.exec(stmtCreateCase, string(c.User), record.Nanos(c.Expires), data)
		if errors.Is(err, storage.ErrExists) {
			return storage.ErrConflict
		}
		return err
	})
}

// RemoveCase implements [storage.Cases].
func (s *Store) RemoveCase(ctx context.Context, u storage.UserID) error {
	return s.do(ctx, func(w *writes) error { return gone(w.exec(stmtRemoveCase, string(u))) })
}

// ListCases implements [storage.Cases].
func (s *Store) ListCases(ctx context.Context, p storage.Page) ([]storage.Case, error) {
	return page(ctx, s, stmtListCases, caseVersion, p)
}
