package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// logoutRow is a logout as it is read.
type logoutRow struct {
	logout                    storage.Logout
	createdAt, dueAt, expires int64
}

func (r *logoutRow) into() []any {
	return []any{&r.logout.Session, &r.logout.Client, &r.createdAt, &r.logout.Attempts, &r.dueAt, &r.expires}
}

func (r *logoutRow) read() storage.Logout {
	l := r.logout
	l.CreatedAt, l.DueAt, l.Expires = record.Instant(r.createdAt), record.Instant(r.dueAt), record.Instant(r.expires)
	return l
}

// AddLogouts implements [storage.Logouts].
func (s *Store) AddLogouts(ctx context.Context, list []storage.Logout) error {
	return s.do(ctx, func(w *writes) error {
		for _, l := range list {
			if _, err := w.exec(stmtAddLogout, string(l.Session), string(l.Client), record.Nanos(l.CreatedAt), l.Attempts, record.Nanos(l.DueAt), record.Nanos(l.Expires)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ClaimLogouts implements [storage.Logouts].
func (s *Store) ClaimLogouts(ctx context.Context, now, again time.Time, limit int) ([]storage.Logout, error) {
	var list []storage.Logout
	err := s.do(ctx, func(w *writes) error {
		list = nil // it may run again
		if _, err := w.exec(stmtLapsedLogouts, record.Nanos(now)); err != nil {
			return err
		}
		err := w.rows(stmtDueLogouts, []any{record.Nanos(now), limit}, func(rows *sql.Rows) error {
			var r logoutRow
			err := rows.Scan(r.into()...)
			list = append(list, r.read())
			return err
		})
		if err != nil {
			return err
		}
		for i := range list {
			l := &list[i]
			if _, err := w.exec(stmtClaimLogout, record.Nanos(again), string(l.Session), string(l.Client)); err != nil {
				return err
			}
			l.DueAt, l.Attempts = record.Instant(record.Nanos(again)), l.Attempts+1
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// DeferLogout implements [storage.Logouts].
func (s *Store) DeferLogout(ctx context.Context, c clients.ID, x storage.SessionID, due time.Time) error {
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtDeferLogout, record.Nanos(due), string(x), string(c))
		return err
	})
}

// FinishLogout implements [storage.Logouts].
func (s *Store) FinishLogout(ctx context.Context, c clients.ID, x storage.SessionID) error {
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtFinishLogout, string(x), string(c))
		return err
	})
}

// Logout implements [storage.Logouts].
func (s *Store) Logout(ctx context.Context, c clients.ID, x storage.SessionID) (storage.Logout, error) {
	var r logoutRow
	if err := s.row(ctx, stmtLogout, []any{string(x), string(c)}, r.into()...); err != nil {
		return storage.Logout{}, err
	}
	return r.read(), nil
}

// EachLogout implements [storage.Logouts]. No read is open while visit runs:
// it would hold up checkpoints.
func (s *Store) EachLogout(ctx context.Context, visit func(storage.Logout) error) error {
	const page = 500
	var last storage.Logout
	for {
		var list []storage.Logout
		err := s.rows(ctx, stmtLogouts, []any{string(last.Session), string(last.Client), page}, func(rows *sql.Rows) error {
			var r logoutRow
			err := rows.Scan(r.into()...)
			list = append(list, r.read())
			return err
		})
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := visit(l); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
		last = list[len(list)-1]
	}
}
