package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

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
	return s.put(ctx, s.grantKey(g.ID), g.User, encodeGrant(g, jkt), grantMember(g.ID), g.CreatedAt, g.Expires)
}

// Standing implements [storage.Grants].
func (s *Store) Standing(ctx context.Context, id storage.GrantID, client clients.ID) (st storage.Standing, err error) {
	var grant, session, user, version *redis.StringCmd
	err = s.read(ctx, func(p redis.Pipeliner) {
		grant = p.Get(ctx, s.grantKey(id))
		session = p.Get(ctx, s.sessionKey(id.Session()))
		user = p.Get(ctx, s.userKey(id.User()))
		version = p.GetRange(ctx, s.clientKey(client), 0, 7)
	})
	if err != nil {
		return st, err
	}
	if grant.Val() == "" {
		return st, storage.ErrNotFound
	}
	if st.Grant, err = decodeGrant(id, grant.Val()); err != nil {
		return storage.Standing{}, err
	}
	if v := session.Val(); v != "" {
		if st.Session, err = decodeSession(id.Session(), v); err != nil {
			return storage.Standing{}, err
		}
	}
	if v := user.Val(); v != "" {
		if st.User, err = decodeUser(v); err != nil {
			return storage.Standing{}, err
		}
	}
	if v := version.Val(); len(v) == 8 {
		st.ClientVersion = versionOf(v)
	}
	return st, nil
}

// Redeem implements [storage.Grants]. It is never repeated: when its answer is
// lost, nobody gets tokens.
func (s *Store) Redeem(ctx context.Context, r storage.Redemption) error {
	jkt, err := record.Thumbprint(r.JKT)
	if err != nil {
		return fmt.Errorf("redemption of grant %q: %w", r.Grant, err)
	}
	return s.do(ctx, write{script: redeemScript, keys: []string{s.grantKey(r.Grant), s.indexKey(r.Grant.User())}, lasting: true,
		args: []any{times(r.At, r.IdleExpires, r.Expires), storage.ReasonCodeReuse, life(r.At, r.Expires), grantMember(r.Grant), score(r.Expires), jkt}})
}

// Rotate implements [storage.Grants]. To repeat it is to ask again within the
// grace window.
func (s *Store) Rotate(ctx context.Context, r storage.Rotation) error {
	args := appendTime(make([]byte, 0, 32), r.At)
	args = binary.BigEndian.AppendUint64(args, r.From)
	args = appendTime(args, r.At.Add(-r.Grace))
	args = appendTime(args, r.IdleExpires)
	w := write{script: rotateScript, keys: []string{s.grantKey(r.Grant)}, args: []any{args, storage.ReasonRefreshReuse, ""}, repeat: harmless, lasting: true}
	if r.Keep {
		w.args[2] = "1"
	}
	if !r.OnlyUntil.IsZero() {
		// Named only here: while its slot moves, a script that names a key that
		// is not there must wait until it has moved.
		w.keys = append(w.keys, s.onlyKey(r.Grant.User()))
		// With what it is the only one of: repeated it knows its own.
		w.args = append(w.args, times(r.OnlyUntil, r.At)+string(r.Grant), max(r.OnlyUntil.Sub(r.At), 0).Milliseconds()+clockMargin.Milliseconds(), "")
		w.repeat, w.again = marked, len(w.args)-1
	}
	return s.do(ctx, w)
}

// RevokeGrant implements [storage.Grants].
func (s *Store) RevokeGrant(ctx context.Context, id storage.GrantID, at time.Time, reason string) error {
	return s.do(ctx, write{script: revokeScript, keys: []string{s.grantKey(id)}, args: []any{times(at), reason}, repeat: harmless, lasting: true, ends: true})
}

// ListGrants implements [storage.Grants].
func (s *Store) ListGrants(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Grant, error) {
	return listOf(ctx, s, u, 'g', s.grantKey, decodeGrant, p)
}

// Count implements [storage.Counters].
func (s *Store) Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (storage.Tally, error) {
	part := now.UnixNano() / int64(window)
	reply, err := s.run(ctx, write{script: countScript, args: []any{n, (2 * window).Milliseconds()},
		keys: []string{s.counterKey(key, window, part), s.counterKey(key, window, part-1)}})
	if err != nil {
		return storage.Tally{}, err
	}
	tally, ok := reply.([]any)
	if !ok || len(tally) != 2 {
		return storage.Tally{}, fmt.Errorf("%w: script count answered %v", storage.ErrUnavailable, reply)
	}
	current, _ := tally[0].(int64)
	previous, _ := tally[1].(int64)
	return storage.Tally{Current: int(current), Previous: int(previous)}, nil
}
