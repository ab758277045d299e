package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// memory is what the replicas take, in bytes that are resident; of Redis, what
// it says that its data takes. 0: there is none, or it can't be read.
type memory struct {
	when               string
	events             int64 // that an API holds
	server, api, store int64
}

// weigh notes the memory of the largest server and the largest API.
func (r *replicas) weigh(ctx context.Context, when string) error {
	m := memory{when: when}
	for _, s := range r.servers {
		u, _ := usageOf(s.pid)
		m.server = max(m.server, u.rss)
	}
	for _, a := range r.apis {
		u, _ := usageOf(a.pid)
		m.api = max(m.api, u.rss)
		state, err := r.state(ctx, a)
		if err != nil {
			return err
		}
		m.events = max(m.events, state.Events)
	}
	if r.redis != nil {
		var err error
		if m.store, err = r.redisMemory(ctx); err != nil {
			return err
		}
	}
	r.memory = append(r.memory, m)
	return nil
}

// grow makes a past of n revocations, and notes what a server and an API take
// before.
func (r *replicas) grow(ctx context.Context, n int) error {
	if err := r.startServers(ctx, 1); err != nil {
		return err
	}
	if err := r.startAPIs(ctx, 1); err != nil {
		return err
	}
	if err := r.weigh(ctx, "nothing was revoked yet"); err != nil {
		return err
	}
	for _, e := range append(r.apis, r.servers...) {
		if err := r.process(e).stop(); err != nil {
			return err
		}
	}
	r.apis, r.servers = nil, nil
	store, err := openStore(ctx, r.store())
	if err != nil {
		return err
	}
	return errors.Join(revokeBefore(ctx, store, n), store.Close())
}

// eventsAtOnce is how many events are appended, or read, in one go.
const eventsAtOnce = 1000

// revokeBefore appends n revocations of people who are nobody here.
func revokeBefore(ctx context.Context, store storage.Store, n int) error {
	for n > 0 {
		list := make([]storage.Event, min(n, eventsAtOnce))
		n -= len(list)
		now := time.Now()
		for i := range list {
			id, err := clients.NewID(rand.Reader)
			if err != nil {
				return err
			}
			var jti [16]byte
			rand.Read(jti[:])
			list[i] = storage.Event{
				ID: base64.RawURLEncoding.EncodeToString(jti[:]), Kind: storage.EventUser, Subject: string(id), Epoch: 1,
				NotBefore: now, Until: now.Add(tokenLife), Reason: "revoked",
			}
		}
		if err := store.AppendEvents(ctx, list, now); err != nil {
			return fmt.Errorf("revocations of before: %w", err)
		}
	}
	return nil
}
