package sqlite

import (
	"context"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func clientVersion(c *clients.Client, v uint64)                  { c.Version = v }
func resourceServerVersion(rs *clients.ResourceServer, v uint64) { rs.Version = v }

// Client implements [storage.Clients].
func (s *Store) Client(ctx context.Context, id clients.ID) (clients.Client, error) {
	return versioned(ctx, s, stmtClient, clientVersion, string(id))
}

// CreateClient implements [storage.Clients].
func (s *Store) CreateClient(ctx context.Context, c clients.Client) error {
	return s.create(ctx, stmtCreateClient, c, string(c.ID))
}

// UpdateClient implements [storage.Clients].
func (s *Store) UpdateClient(ctx context.Context, c clients.Client) error {
	return s.update(ctx, stmtUpdateClient, stmtClient, c, string(c.ID), c.Version)
}

// RemoveClient implements [storage.Clients].
func (s *Store) RemoveClient(ctx context.Context, id clients.ID) error {
	return s.do(ctx, func(w *writes) error { return gone(w.exec(stmtRemoveClient, string(id))) })
}

// ListClients implements [storage.Clients].
func (s *Store) ListClients(ctx context.Context, p storage.Page) ([]clients.Client, error) {
	return page(ctx, s, stmtListClients, clientVersion, p)
}

// ResourceServer implements [storage.ResourceServers].
func (s *Store) ResourceServer(ctx context.Context, id clients.ID) (clients.ResourceServer, error) {
	return versioned(ctx, s, stmtResourceServer, resourceServerVersion, string(id))
}

// CreateResourceServer implements [storage.ResourceServers].
func (s *Store) CreateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return s.create(ctx, stmtCreateResourceServer, rs, string(rs.ID))
}

// UpdateResourceServer implements [storage.ResourceServers].
func (s *Store) UpdateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return s.update(ctx, stmtUpdateResourceServer, stmtResourceServer, rs, string(rs.ID), rs.Version)
}

// RemoveResourceServer implements [storage.ResourceServers].
func (s *Store) RemoveResourceServer(ctx context.Context, id clients.ID) error {
	return s.do(ctx, func(w *writes) error { return gone(w.exec(stmtRemoveResourceServer, string(id))) })
}

// ListResourceServers implements [storage.ResourceServers].
func (s *Store) ListResourceServers(ctx context.Context, p storage.Page) ([]clients.ResourceServer, error) {
	return page(ctx, s, stmtListResourceServers, resourceServerVersion, p)
}

// create inserts a record; columns stand before its data.
func (s *Store) create(ctx context.Context, st statement, record any, columns ...any) error {
	data, err := encode(record)
	if err != nil {
		return err
	}
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(st, append(columns, data)...)
		return err
	})
}

// update replaces a record by compare-and-swap.
func (s *Store) update(ctx context.Context, st, look statement, record any, id string, version uint64) error {
	data, err := encode(record)
	if err != nil {
		return err
	}
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(st, data, id, version)
		return w.swap(changed, err, look, id)
	})
}
