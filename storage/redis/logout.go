package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// A logout is a member, the client's length in four bytes, the client and the
// session, and a value, its attempts in four bytes and when it is due, was made
// and expires.
const logoutSize = 28

func logoutMember(c clients.ID, x storage.SessionID) string { return nameText(string(c)) + string(x) }

func encodeLogout(l storage.Logout) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(l.Attempts))) + times(l.DueAt, l.CreatedAt, l.Expires)
}

func decodeLogout(member, value string) (storage.Logout, error) {
	if len(value) != logoutSize || len(member) < 4 || uint64(len(member)-4) < uint64(number(member, 0)) {
		return storage.Logout{}, damaged("logout", record.ErrDamaged)
	}
	end := 4 + int(number(member, 0))
	return storage.Logout{
		Client: clients.ID(member[4:end]), Session: storage.SessionID(member[end:]), Attempts: int(number(value, 0)),
		DueAt: timeAt(value, 4), CreatedAt: timeAt(value, 12), Expires: timeAt(value, 20),
	}, nil
}

// dueScore orders by when logouts are due. Nanoseconds would not be exact in a
// double, so scripts look at the value, too.
func dueScore(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }

func (s *Store) logoutKeys() []string { return []string{s.logoutsKey(), s.dueKey()} }

// AddLogouts implements [storage.Logouts].
func (s *Store) AddLogouts(ctx context.Context, list []storage.Logout) error {
	const atOnce = 500 // so that nobody waits long for the script
	for part := range slices.Chunk(list, atOnce) {
		longest := int64(0)
		args := make([]any, 1, 1+3*len(part))
		for _, l := range part {
			longest = max(longest, life(l.CreatedAt, l.Expires))
			args = append(args, logoutMember(l.Client, l.Session), encodeLogout(l), dueScore(l.DueAt))
		}
		args[0] = longest
		if err := s.do(ctx, write{script: oweScript, keys: s.logoutKeys(), args: args, repeat: harmless, lasting: true}); err != nil {
			return err
		}
	}
	return nil
}

// ClaimLogouts implements [storage.Logouts]. When its answer is lost, what was
// claimed is due again later.
func (s *Store) ClaimLogouts(ctx context.Context, now, again time.Time, limit int) ([]storage.Logout, error) {
	const besides = 100
	reply, err := s.run(ctx, write{script: claimScript, keys: s.logoutKeys(), args: []any{times(now), times(again), dueScore(now), dueScore(again), limit, besides}})
	if err != nil {
		return nil, err
	}
	pairs, ok := reply.([]any)
	if !ok || len(pairs)%2 != 0 {
		return nil, fmt.Errorf("%w: script claim answered %v", storage.ErrUnavailable, reply)
	}
	var list []storage.Logout
	for pair := range slices.Chunk(pairs, 2) {
		member, _ := pair[0].(string)
		value, _ := pair[1].(string)
		l, err := decodeLogout(member, value)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

// DeferLogout implements [storage.Logouts].
func (s *Store) DeferLogout(ctx context.Context, c clients.ID, x storage.SessionID, due time.Time) error {
	return s.do(ctx, write{script: deferScript, keys: s.logoutKeys(), args: []any{logoutMember(c, x), times(due), dueScore(due)}, repeat: harmless})
}

// FinishLogout implements [storage.Logouts].
func (s *Store) FinishLogout(ctx context.Context, c clients.ID, x storage.SessionID) error {
	return s.do(ctx, write{script: finishScript, keys: s.logoutKeys(), args: []any{logoutMember(c, x)}, repeat: harmless, lasting: true})
}

// Logout implements [storage.Logouts].
func (s *Store) Logout(ctx context.Context, c clients.ID, x storage.SessionID) (storage.Logout, error) {
	var value *redis.StringCmd
	member := logoutMember(c, x)
	if err := s.read(ctx, func(p redis.Pipeliner) { value = p.HGet(ctx, s.logoutsKey(), member) }); err != nil {
		return storage.Logout{}, err
	}
	if value.Val() == "" {
		return storage.Logout{}, storage.ErrNotFound
	}
	return decodeLogout(member, value.Val())
}

// EachLogout implements [storage.Logouts].
func (s *Store) EachLogout(ctx context.Context, visit func(storage.Logout) error) error {
	visited := map[string]bool{} // a scan may return one twice
	for cursor := uint64(0); ; {
		var scan *redis.ScanCmd
		if err := s.read(ctx, func(p redis.Pipeliner) { scan = p.HScan(ctx, s.logoutsKey(), cursor, "", 500) }); err != nil {
			return err
		}
		pairs, next := scan.Val()
		for pair := range slices.Chunk(pairs, 2) {
			if visited[pair[0]] {
				continue
			}
			visited[pair[0]] = true
			l, err := decodeLogout(pair[0], pair[1])
			if err == nil {
				err = visit(l)
			}
			if err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
