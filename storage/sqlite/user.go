package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

func userVersion(u *storage.User, v uint64) { u.Version = v }

// User implements [storage.Users].
func (s *Store) User(ctx context.Context, id storage.UserID) (storage.User, error) {
	return versioned(ctx, s, stmtUser, userVersion, string(id))
}

// UserByName implements [storage.Users].
func (s *Store) UserByName(ctx context.Context, name string) (storage.User, error) {
	return versioned(ctx, s, stmtUserByName, userVersion, name)
}

// CreateUser implements [storage.Users].
func (s *Store) CreateUser(ctx context.Context, u storage.User) error {
	return s.create(ctx, stmtCreateUser, u, string(u.ID), u.Name)
}

// UpdateUser implements [storage.Users].
func (s *Store) UpdateUser(ctx context.Context, u storage.User) error {
	data, err := encode(u)
	if err != nil {
		return err
	}
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtUpdateUser, data, u.Name, string(u.ID), u.Version)
		return w.swap(changed, err, stmtUser, string(u.ID))
	})
}

// RemoveUser implements [storage.Users].
func (s *Store) RemoveUser(ctx context.Context, id storage.UserID) error {
	return s.do(ctx, func(w *writes) error {
		if err := gone(w.exec(stmtRemoveUser, string(id))); err != nil {
			return err
		}
		_, err := w.exec(stmtRemoveUserSessions, string(id))
		if err == nil {
			_, err = w.exec(stmtRemoveCase, string(id))
		}
		return err
	})
}

// ListUsers implements [storage.Users].
func (s *Store) ListUsers(ctx context.Context, p storage.Page) ([]storage.User, error) {
	return page(ctx, s, stmtListUsers, userVersion, p)
}

// CreateSession implements [storage.Sessions].
func (s *Store) CreateSession(ctx context.Context, x storage.Session) error {
	if x.User != x.ID.User() {
		return fmt.Errorf("session %q of user %q: its identifier must say whose it is", x.ID, x.User)
	}
	data := record.EncodeSession(x)
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtCreateSession, string(x.ID), string(x.User), record.Nanos(x.LastSeen), record.Nanos(x.IdleExpires), record.Nanos(x.Expires), record.Nanos(x.EndedAt), data)
		return err
	})
}

// sessionRow is a session as it is read; all null when there is none.
type sessionRow struct {
	lastSeen, idleExpires, endedAt sql.NullInt64
	data                           []byte
}

func (r *sessionRow) into() []any { return []any{&r.lastSeen, &r.idleExpires, &r.endedAt, &r.data} }

func (r *sessionRow) session(s *Store, id storage.SessionID) (x storage.Session, err error) {
	if r.data == nil {
		return x, nil
	}
	if x, err = record.DecodeSession(id, r.data); err != nil {
		return storage.Session{}, s.damaged(err)
	}
	x.LastSeen, x.IdleExpires, x.EndedAt = record.Instant(r.lastSeen.Int64), record.Instant(r.idleExpires.Int64), record.Instant(r.endedAt.Int64)
	return x, nil
}

// userRow is a user as it is read; null when there is none.
type userRow struct {
	version sql.NullInt64
	data    []byte
}

func (r *userRow) into() []any { return []any{&r.version, &r.data} }

func (r *userRow) user(s *Store) (u storage.User, err error) {
	if r.data == nil {
		return u, nil
	}
	if err = s.decode(r.data, &u); err != nil {
		return storage.User{}, err
	}
	u.Version = uint64(r.version.Int64)
	return u, nil
}

// SessionUser implements [storage.Sessions].
func (s *Store) SessionUser(ctx context.Context, id storage.SessionID) (storage.Session, storage.User, error) {
	var sr sessionRow
	var ur userRow
	if err := s.row(ctx, stmtSessionUser, []any{string(id)}, append(sr.into(), ur.into()...)...); err != nil {
		return storage.Session{}, storage.User{}, err
	}
	x, err := sr.session(s, id)
	if err != nil {
		return storage.Session{}, storage.User{}, err
	}
	u, err := ur.user(s)
	return x, u, err
}

// TouchSession implements [storage.Sessions].
func (s *Store) TouchSession(ctx context.Context, id storage.SessionID, seen, idleExpires time.Time) error {
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtTouchSession, record.Nanos(seen), record.Nanos(idleExpires), string(id))
		return err
	})
}

// RenewSession implements [storage.Sessions].
func (s *Store) RenewSession(ctx context.Context, x storage.Session) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRenewSession, record.Nanos(x.LastSeen), record.Nanos(x.IdleExpires), record.Nanos(x.Expires), record.EncodeSession(x), string(x.ID))
		if err == nil && changed == 0 {
			return storage.ErrNotFound
		}
		return err
	})
}

// EndSession implements [storage.Sessions].
func (s *Store) EndSession(ctx context.Context, id storage.SessionID, at time.Time) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtEndSession, record.Nanos(at), string(id))
		if err != nil || changed == 1 {
			return err
		}
		var one int
		return w.row(stmtHasSession, []any{string(id)}, &one)
	})
}

// ListSessions implements [storage.Sessions].
func (s *Store) ListSessions(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Session, error) {
	list := []storage.Session{}
	err := s.rows(ctx, stmtListSessions, []any{string(u), p.After, p.Limit}, func(rows *sql.Rows) error {
		var r sessionRow
		var id storage.SessionID
		if err := rows.Scan(append([]any{&id}, r.into()...)...); err != nil {
			return err
		}
		x, err := r.session(s, id)
		list = append(list, x)
		return err
	})
	return list, err
}
