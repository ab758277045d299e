package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/solegate/solegate/storage"
)

// CreateGrant implements [storage.Grants].
func (s *Store) CreateGrant(ctx context.Context, g storage.Grant) error {
	data := encodeGrant(g)
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtCreateGrant, string(g.ID), string(g.User), string(g.Session), string(g.Client), nanos(g.CodeExpires), nanos(g.RedeemedAt),
			int64(g.Generation), nanos(g.RotatedAt), nanos(g.IdleExpires), nanos(g.Expires), nanos(g.RevokedAt), g.RevokedFor, data)
		return err
	})
}

// grantRow is a grant as it is read: the columns win over the data.
type grantRow struct {
	redeemedAt, generation, rotatedAt, idleExpires, expires, revokedAt int64
	revokedFor                                                         string
	data                                                               []byte
}

func (r *grantRow) into() []any {
	return []any{&r.redeemedAt, &r.generation, &r.rotatedAt, &r.idleExpires, &r.expires, &r.revokedAt, &r.revokedFor, &r.data}
}

func (r *grantRow) grant(s *Store) (g storage.Grant, err error) {
	if g, err = decodeGrant(r.data); err != nil {
		return storage.Grant{}, s.damaged(err)
	}
	g.RedeemedAt, g.Generation, g.RotatedAt = instant(r.redeemedAt), uint64(r.generation), instant(r.rotatedAt)
	g.IdleExpires, g.Expires = instant(r.idleExpires), instant(r.expires)
	g.RevokedAt, g.RevokedFor = instant(r.revokedAt), r.revokedFor
	return g, nil
}

// Standing implements [storage.Grants].
func (s *Store) Standing(ctx context.Context, id storage.GrantID) (st storage.Standing, err error) {
	var gr grantRow
	var sr sessionRow
	var ur userRow
	into := append(append(append(make([]any, 0, 16), gr.into()...), sr.into()...), ur.into()...)
	if err := s.row(ctx, stmtStanding, []any{string(id)}, append(into, &st.ClientVersion)...); err != nil {
		return st, err
	}
	if st.Grant, err = gr.grant(s); err != nil {
		return storage.Standing{}, err
	}
	if st.Session, err = sr.session(s); err != nil {
		return storage.Standing{}, err
	}
	st.User, err = ur.user(s)
	return st, err
}

// grantState is what decides over a redemption or rotation that the update
// did not make.
type grantState struct {
	redeemedAt, generation, rotatedAt, idleExpires, expires, revokedAt, codeExpires int64
}

func (w *writes) grantState(id storage.GrantID) (g grantState, err error) {
	err = w.row(stmtGrantState, []any{string(id)}, &g.redeemedAt, &g.generation, &g.rotatedAt, &g.idleExpires, &g.expires, &g.revokedAt, &g.codeExpires)
	return g, err
}

// reused revokes a grant for reuse, in the transaction that detected it.
func (w *writes) reused(id storage.GrantID, at time.Time, reason string) error {
	if _, err := w.exec(stmtRevokeGrant, nanos(at), reason, string(id)); err != nil {
		return err
	}
	return storage.ErrReused
}

// Redeem implements [storage.Grants].
func (s *Store) Redeem(ctx context.Context, r storage.Redemption) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRedeem, nanos(r.At), nanos(r.IdleExpires), nanos(r.Expires), string(r.Grant), nanos(r.At))
		if err != nil || changed == 1 {
			return err
		}
		g, err := w.grantState(r.Grant)
		switch {
		case err != nil:
			return err
		case g.redeemedAt != 0:
			return w.reused(r.Grant, r.At, storage.ReasonCodeReuse)
		case g.revokedAt != 0:
			return storage.ErrRevoked
		}
		return storage.ErrExpired
	})
}

// Rotate implements [storage.Grants].
func (s *Store) Rotate(ctx context.Context, r storage.Rotation) error {
	at := nanos(r.At)
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRotate, at, nanos(r.IdleExpires), string(r.Grant), int64(r.From), at, at)
		if err != nil || changed == 1 {
			return err
		}
		g, err := w.grantState(r.Grant)
		current := uint64(g.generation)
		switch {
		case err != nil:
			return err
		case g.redeemedAt == 0:
			return storage.ErrNotFound
		case g.revokedAt != 0:
			return storage.ErrRevoked
		case at >= g.expires || at >= g.idleExpires:
			return storage.ErrExpired
		case r.From > current:
			return storage.ErrNotFound
		case r.From+1 == current && at-g.rotatedAt <= int64(r.Grace):
			return nil
		}
		return w.reused(r.Grant, r.At, storage.ReasonRefreshReuse)
	})
}

// RevokeGrant implements [storage.Grants].
func (s *Store) RevokeGrant(ctx context.Context, id storage.GrantID, at time.Time, reason string) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRevokeGrant, nanos(at), reason, string(id))
		if err != nil || changed == 1 {
			return err
		}
		_, err = w.grantState(id)
		return err
	})
}

// ListGrants implements [storage.Grants].
func (s *Store) ListGrants(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Grant, error) {
	list := []storage.Grant{}
	err := s.rows(ctx, stmtListGrants, []any{string(u), p.After, p.Limit}, func(rows *sql.Rows) error {
		var r grantRow
		if err := rows.Scan(r.into()...); err != nil {
			return err
		}
		g, err := r.grant(s)
		list = append(list, g)
		return err
	})
	return list, err
}
