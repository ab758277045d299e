package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
)

// slack is how long a session or a grant stays after its end: who presents it
// late is told so, and a code that comes again is known for some time.
const slack = time.Hour

// put stores a session or a grant that lives from created to expires.
func (s *Store) put(ctx context.Context, key string, u storage.UserID, value, member string, created, expires time.Time) error {
	return s.do(ctx, write{script: putScript, keys: []string{key, s.indexKey(u)}, repeat: marked, again: 5,
		args: []any{value, life(created, expires), member, score(expires), score(created.Add(-slack)), ""}})
}

// life is how long a record is kept, in milliseconds.
func life(now, expires time.Time) int64 {
	return max(expires.Sub(now), 0).Milliseconds() + slack.Milliseconds()
}

func score(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// members returns those of a user's index that are of a kind, in order.
func (s *Store) members(ctx context.Context, u storage.UserID, kind byte) ([]string, error) {
	var all *redis.StringSliceCmd
	err := s.read(ctx, func(p redis.Pipeliner) { all = p.ZRange(ctx, s.indexKey(u), 0, -1) })
	if err != nil {
		return nil, err
	}
	members := slices.DeleteFunc(all.Val(), func(m string) bool { return m == "" || m[0] != kind })
	slices.Sort(members)
	return members, nil
}

// listOf reads a page of a user's sessions or grants. What has expired
// meanwhile is left out; a short page is the last one.
func listOf[ID ~string, R any](ctx context.Context, s *Store, u storage.UserID, kind byte, key func(ID) string, decode func(ID, string) (R, error), p storage.Page) ([]R, error) {
	members, err := s.members(ctx, u, kind)
	if err != nil {
		return nil, err
	}
	var ids []ID
	for _, m := range members {
		if id := ID(string(u) + m[1:]); string(id) > p.After {
			ids = append(ids, id)
		}
	}
	all := []R{}
	for len(ids) > 0 && len(all) < p.Limit {
		part := ids[:min(len(ids), p.Limit-len(all))]
		ids = ids[len(part):]
		keys := make([]string, len(part))
		for i, id := range part {
			keys[i] = key(id)
		}
		values, err := s.get(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if v == "" {
				continue
			}
			r, err := decode(part[i], v)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	return all, nil
}

// CreateSession implements [storage.Sessions].
func (s *Store) CreateSession(ctx context.Context, x storage.Session) error {
	if x.User != x.ID.User() {
		return fmt.Errorf("session %q of user %q: its identifier must say whose it is", x.ID, x.User)
	}
	return s.put(ctx, s.sessionKey(x.ID), x.User, encodeSession(x), sessionMember(x.ID), x.CreatedAt, x.Expires)
}

// SessionUser implements [storage.Sessions].
func (s *Store) SessionUser(ctx context.Context, id storage.SessionID) (storage.Session, storage.User, error) {
	values, err := s.get(ctx, s.sessionKey(id), s.userKey(id.User()))
	if err != nil {
		return storage.Session{}, storage.User{}, err
	}
	if values[0] == "" || values[1] == "" {
		return storage.Session{}, storage.User{}, storage.ErrNotFound
	}
	x, err := decodeSession(id, values[0])
	if err != nil {
		return storage.Session{}, storage.User{}, err
	}
	u, err := decodeUser(values[1])
	return x, u, err
}

// TouchSession implements [storage.Sessions].
func (s *Store) TouchSession(ctx context.Context, id storage.SessionID, seen, idleExpires time.Time) error {
	err := s.do(ctx, write{script: touchScript, keys: []string{s.sessionKey(id)}, args: []any{times(seen, idleExpires, time.Time{})}, repeat: harmless})
	if err == storage.ErrNotFound {
		return nil
	}
	return err
}

// RenewSession implements [storage.Sessions].
func (s *Store) RenewSession(ctx context.Context, x storage.Session) error {
	x.EndedAt = time.Time{}
	return s.do(ctx, write{script: renewScript, keys: []string{s.sessionKey(x.ID), s.indexKey(x.ID.User())}, repeat: harmless,
		args: []any{encodeSession(x), life(x.AuthTime, x.Expires), sessionMember(x.ID), score(x.Expires)}})
}

// EndSession implements [storage.Sessions].
func (s *Store) EndSession(ctx context.Context, id storage.SessionID, at time.Time) error {
	return s.do(ctx, write{script: touchScript, keys: []string{s.sessionKey(id)}, args: []any{times(time.Time{}, time.Time{}, at)}, repeat: harmless, lasting: true, ends: true})
}

// ListSessions implements [storage.Sessions].
func (s *Store) ListSessions(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Session, error) {
	return listOf(ctx, s, u, 's', s.sessionKey, decodeSession, p)
}
