package redis

import (
	"context"
	"encoding/json"
	"time"

	"github.com/solegate/solegate/storage"
)

// Once implements [storage.Replays]. It is never repeated: who can't tell its
// own use from another's must not let either pass.
func (s *Store) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	return s.do(ctx, write{script: onceScript, keys: []string{s.replayKey(key)}, args: []any{"", shortLife(now, until), ""}})
}

// shortLife is how long something is kept that is good for a minute or so, in
// milliseconds. A server whose clock is ahead must not end it for one whose
// clock is not.
func shortLife(now, expires time.Time) int64 {
	return (max(expires.Sub(now), 0) + clockMargin).Milliseconds()
}

// PushRequest implements [storage.PushedRequests].
func (s *Store) PushRequest(ctx context.Context, p storage.PushedRequest, now time.Time) error {
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.do(ctx, write{script: onceScript, keys: []string{s.pushedKey(p.ID)}, args: []any{value, shortLife(now, p.Expires), ""}, repeat: marked, again: 2})
}

// PushedRequest implements [storage.PushedRequests].
func (s *Store) PushedRequest(ctx context.Context, id storage.Hash) (storage.PushedRequest, error) {
	p, err := one(ctx, s, s.pushedKey(id), decodePushed)
	if err != nil {
		return storage.PushedRequest{}, err
	}
	p.ID = id
	return p, nil
}

func decodePushed(b string) (p storage.PushedRequest, err error) {
	if err = json.Unmarshal([]byte(b), &p); err != nil {
		err = damaged("pushed request", err)
	}
	return p, err
}
