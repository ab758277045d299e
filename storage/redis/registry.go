package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// firstVersion is random, so that a record that is made again after its
// removal does not pass for the one before it. It leaves room to count on.
func (s *Store) firstVersion() (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.rand, b[2:]); err != nil {
		return 0, err
	}
	return 1 + binary.BigEndian.Uint64(b[:]), nil
}

// create stores a record of the registry under its first version.
func (s *Store) create(ctx context.Context, key, index, id string, v any) error {
	version, err := s.firstVersion()
	if err != nil {
		return err
	}
	value, err := encodeVersioned(version, "", v)
	if err != nil {
		return err
	}
	return s.do(ctx, write{script: createScript, keys: []string{key, index}, args: []any{value, id, "", ""}, repeat: marked, again: 2, lasting: true})
}

// replace replaces the record whose version is the given one.
func (s *Store) replace(ctx context.Context, key string, version uint64, v any) error {
	value, err := encodeVersioned(version+1, "", v)
	if err != nil {
		return err
	}
	return s.do(ctx, write{script: replaceScript, keys: []string{key}, args: []any{versionText(version), value, "", "", ""}, repeat: marked, again: 2, lasting: true, ends: true})
}

func (s *Store) remove(ctx context.Context, key, index, id string) error {
	return s.do(ctx, write{script: removeScript, keys: []string{key, index}, args: []any{id, ""}, repeat: marked, again: 1, lasting: true, ends: true})
}

// after returns members of an ordered index.
func (s *Store) after(ctx context.Context, index string, p storage.Page) ([]string, error) {
	var members *redis.StringSliceCmd
	err := s.read(ctx, func(pipe redis.Pipeliner) {
		members = pipe.ZRangeByLex(ctx, index, &redis.ZRangeBy{Min: lexAfter(p.After), Max: "+", Count: int64(p.Limit)})
	})
	if err != nil {
		return nil, err
	}
	return members.Val(), nil
}

func lexAfter(member string) string {
	if member == "" {
		return "-"
	}
	return "(" + member
}

// list reads records in the order of an index. What was removed meanwhile is
// left out, and more is read in its place: a short page is the last one.
func list[ID ~string, R any](ctx context.Context, s *Store, index string, key func(ID) string, decode func(string) (R, error), p storage.Page) ([]R, error) {
	all := []R{}
	for {
		ids, err := s.after(ctx, index, storage.Page{After: p.After, Limit: p.Limit - len(all)})
		if err != nil || len(ids) == 0 {
			return all, err
		}
		keys := make([]string, len(ids))
		for i, id := range ids {
			keys[i] = key(ID(id))
		}
		values, err := s.get(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			if v == "" {
				continue
			}
			r, err := decode(v)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
		if len(all) == p.Limit {
			return all, nil
		}
		p.After = ids[len(ids)-1]
	}
}

// one reads one record.
func one[R any](ctx context.Context, s *Store, key string, decode func(string) (R, error)) (r R, err error) {
	values, err := s.get(ctx, key)
	if err != nil {
		return r, err
	}
	if values[0] == "" {
		return r, storage.ErrNotFound
	}
	return decode(values[0])
}

func decodeClient(b string) (c clients.Client, err error) {
	c.Version, err = decodeVersioned("client", b, &c)
	return c, err
}

func decodeResourceServer(b string) (rs clients.ResourceServer, err error) {
	rs.Version, err = decodeVersioned("resource server", b, &rs)
	return rs, err
}

// Client implements [storage.Clients].
func (s *Store) Client(ctx context.Context, id clients.ID) (clients.Client, error) {
	return one(ctx, s, s.clientKey(id), decodeClient)
}

// CreateClient implements [storage.Clients].
func (s *Store) CreateClient(ctx context.Context, c clients.Client) error {
	return s.create(ctx, s.clientKey(c.ID), s.clientsKey(), string(c.ID), c)
}

// UpdateClient implements [storage.Clients].
func (s *Store) UpdateClient(ctx context.Context, c clients.Client) error {
	return s.replace(ctx, s.clientKey(c.ID), c.Version, c)
}

// RemoveClient implements [storage.Clients].
func (s *Store) RemoveClient(ctx context.Context, id clients.ID) error {
	return s.remove(ctx, s.clientKey(id), s.clientsKey(), string(id))
}

// ListClients implements [storage.Clients].
func (s *Store) ListClients(ctx context.Context, p storage.Page) ([]clients.Client, error) {
	return list(ctx, s, s.clientsKey(), s.clientKey, decodeClient, p)
}

// ResourceServer implements [storage.ResourceServers].
func (s *Store) ResourceServer(ctx context.Context, id clients.ID) (clients.ResourceServer, error) {
	return one(ctx, s, s.resourceServerKey(id), decodeResourceServer)
}

// CreateResourceServer implements [storage.ResourceServers].
func (s *Store) CreateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return s.create(ctx, s.resourceServerKey(rs.ID), s.resourceServersKey(), string(rs.ID), rs)
}

// UpdateResourceServer implements [storage.ResourceServers].
func (s *Store) UpdateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return s.replace(ctx, s.resourceServerKey(rs.ID), rs.Version, rs)
}

// RemoveResourceServer implements [storage.ResourceServers].
func (s *Store) RemoveResourceServer(ctx context.Context, id clients.ID) error {
	return s.remove(ctx, s.resourceServerKey(id), s.resourceServersKey(), string(id))
}

// ListResourceServers implements [storage.ResourceServers].
func (s *Store) ListResourceServers(ctx context.Context, p storage.Page) ([]clients.ResourceServer, error) {
	return list(ctx, s, s.resourceServersKey(), s.resourceServerKey, decodeResourceServer, p)
}

// KeyRing implements [storage.Keys].
func (s *Store) KeyRing(ctx context.Context) (storage.KeyRing, error) {
	return one(ctx, s, s.ringKey(), func(b string) (r storage.KeyRing, err error) {
		r.Version, err = decodeVersioned("key ring", b, &r)
		return r, err
	})
}

// PutKeyRing implements [storage.Keys].
func (s *Store) PutKeyRing(ctx context.Context, r storage.KeyRing) error {
	if r.Version > 0 {
		err := s.replace(ctx, s.ringKey(), r.Version, r)
		if errors.Is(err, storage.ErrNotFound) {
			return storage.ErrConflict
		}
		return err
	}
	value, err := encodeVersioned(1, "", r)
	if err != nil {
		return err
	}
	err = s.do(ctx, write{script: createScript, keys: []string{s.ringKey()}, args: []any{value, "", "", ""}, repeat: marked, again: 2, lasting: true})
	if errors.Is(err, storage.ErrExists) {
		return storage.ErrConflict
	}
	return err
}
