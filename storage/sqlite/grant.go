package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// CreateGrant implements [storage.Grants].
func (s *Store) CreateGrant(ctx context.Context, g storage.Grant) error {
	if g.User != g.ID.User() || g.Session != g.ID.Session() {
		return fmt.Errorf("grant %q of session %q: its identifier must say whose it is", g.ID, g.Session)
	}
	jkt, err := record.Thumbprint(g.JKT)
	if err != nil {
		return fmt.Errorf("grant %q: %w", g.ID, err)
	}
	if jkt == nil {
		jkt = []byte{} // nil would be NULL
	}
	data := record.EncodeGrant(g)
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtCreateGrant, string(g.ID), string(g.User), string(g.Session), string(g.Client), record.Nanos(g.CodeExpires), record.Nanos(g.RedeemedAt),
			int64(g.Generation), record.Nanos(g.RotatedAt), record.Nanos(g.IdleExpires), record.Nanos(g.Expires), record.Nanos(g.RevokedAt), g.RevokedFor, jkt, data)
		return err
	})
}

// grantRow is a grant as it is read: the columns win over the data.
type grantRow struct {
	redeemedAt, generation, rotatedAt, idleExpires, expires, revokedAt int64
	revokedFor                                                         string
	jkt, data                                                          []byte
}

func (r *grantRow) into() []any {
	return []any{&r.redeemedAt, &r.generation, &r.rotatedAt, &r.idleExpires, &r.expires, &r.revokedAt, &r.revokedFor, &r.jkt, &r.data}
}

func (r *grantRow) grant(s *Store, id storage.GrantID) (g storage.Grant, err error) {
	if g, err = record.DecodeGrant(id, r.data); err != nil {
		return storage.Grant{}, s.damaged(err)
	}
	if g.JKT, err = record.JKT(r.jkt); err != nil {
		return storage.Grant{}, s.damaged(err)
	}
	g.RedeemedAt, g.Generation, g.RotatedAt = record.Instant(r.redeemedAt), uint64(r.generation), record.Instant(r.rotatedAt)
	g.IdleExpires, g.Expires = record.Instant(r.idleExpires), record.Instant(r.expires)
	g.RevokedAt, g.RevokedFor = record.Instant(r.revokedAt), r.revokedFor
	return g, nil
}

// Standing implements [storage.Grants].
func (s *Store) Standing(ctx context.Context, id storage.GrantID, client clients.ID) (st storage.Standing, err error) {
	var gr grantRow
	var sr sessionRow
	var ur userRow
	into := append(append(append(make([]any, 0, 17), gr.into()...), sr.into()...), ur.into()...)
	if err := s.row(ctx, stmtStanding, []any{string(id), string(client)}, append(into, &st.ClientVersion)...); err != nil {
		return st, err
	}
	if st.Grant, err = gr.grant(s, id); err != nil {
		return storage.Standing{}, err
	}
	if st.Session, err = sr.session(s, id.Session()); err != nil {
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
	if _, err := w.exec(stmtRevokeGrant, record.Nanos(at), reason, string(id)); err != nil {
		return err
	}
	return storage.ErrReused
}

// Redeem implements [storage.Grants].
func (s *Store) Redeem(ctx context.Context, r storage.Redemption) error {
	jkt, err := record.Thumbprint(r.JKT)
	if err != nil {
		return fmt.Errorf("redemption of grant %q: %w", r.Grant, err)
	}
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRedeem, record.Nanos(r.At), record.Nanos(r.IdleExpires), record.Nanos(r.Expires), jkt, string(r.Grant), record.Nanos(r.At))
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
	at := record.Nanos(r.At)
	return s.do(ctx, func(w *writes) error {
		if !r.OnlyUntil.IsZero() {
			if err := w.only(r); err != nil {
				return err
			}
		}
		st, args := stmtRotate, []any{at, record.Nanos(r.IdleExpires), string(r.Grant), int64(r.From), at, at}
		if r.Keep {
			st, args = stmtKeep, args[1:]
		}
		changed, err := w.exec(st, args...)
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

// only notes that the user has had a refresh, if r is one, or answers
// storage.ErrTooSoon. Of what is none, Rotate says why.
func (w *writes) only(r storage.Rotation) error {
	g, err := w.grantState(r.Grant)
	at := record.Nanos(r.At)
	if err != nil || r.From != uint64(g.generation) || g.redeemedAt == 0 || g.revokedAt != 0 || at >= g.expires || at >= g.idleExpires {
		return nil
	}
	key := sha256.Sum256([]byte("refresh of " + string(r.Grant.User())))
	changed, err := w.exec(stmtOnce, key[:], at, record.Nanos(r.OnlyUntil))
	if err == nil && changed == 0 {
		return storage.ErrTooSoon
	}
	return err
}

// RevokeGrant implements [storage.Grants].
func (s *Store) RevokeGrant(ctx context.Context, id storage.GrantID, at time.Time, reason string) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtRevokeGrant, record.Nanos(at), reason, string(id))
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
		var id storage.GrantID
		if err := rows.Scan(append([]any{&id}, r.into()...)...); err != nil {
			return err
		}
		g, err := r.grant(s, id)
		list = append(list, g)
		return err
	})
	return list, err
}
