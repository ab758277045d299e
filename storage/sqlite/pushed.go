package sqlite

import (
	"context"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// Once implements [storage.Replays].
func (s *Store) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	return s.do(ctx, func(w *writes) error {
		changed, err := w.exec(stmtOnce, key[:], record.Nanos(now), record.Nanos(until))
		if err == nil && changed == 0 {
			return storage.ErrExists
		}
		return err
	})
}

// PushRequest implements [storage.PushedRequests].
func (s *Store) PushRequest(ctx context.Context, p storage.PushedRequest, _ time.Time) error {
	return s.create(ctx, stmtPushRequest, p, p.ID[:], record.Nanos(p.Expires))
}

// PushedRequest implements [storage.PushedRequests].
func (s *Store) PushedRequest(ctx context.Context, id storage.Hash) (storage.PushedRequest, error) {
	var data []byte
	if err := s.row(ctx, stmtPushedRequest, []any{id[:]}, &data); err != nil {
		return storage.PushedRequest{}, err
	}
	p := storage.PushedRequest{ID: id}
	if err := s.decode(data, &p); err != nil {
		return storage.PushedRequest{}, err
	}
	return p, nil
}
