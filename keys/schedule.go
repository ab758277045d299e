package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/solegate/solegate/storage"
)

// handover is how long a successor made by hand is published before it takes
// over: verifiers keep the set for five minutes.
const handover = 15 * time.Minute

// notice is how often Run looks for what other processes changed.
const notice = 2 * time.Second

// Run keeps the schedule until ctx ends: it publishes successors ahead of
// time, deletes keys whose last token has expired, and notices what other
// processes changed. While the store can't be reached the ring goes on with
// what it has, and says so once.
func (r *Ring) Run(ctx context.Context) error {
	tick := time.NewTicker(notice)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := r.Reload(ctx)
		if err == nil {
			err = r.keepSchedule(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !failing:
			r.config.Log.Error("the key ring can't be read; going on with the keys at hand", "error", err)
		case err == nil && failing:
			r.config.Log.Info("the key ring can be read again")
		}
		failing = err != nil
	}
}

// keepSchedule makes the ring what the schedule wants at this moment.
func (r *Ring) keepSchedule(ctx context.Context) error {
	return r.update(ctx, r.scheduled)
}

// scheduled returns what has to be in the ring: a successor for each key that
// is due, and no key that nothing needs.
func (r *Ring) scheduled(ring *storage.KeyRing) (changed bool, err error) {
	now, c := r.config.Now(), r.config
	for _, a := range c.Algorithms {
		var latest *storage.Key
		for i := range ring.Keys {
			k := &ring.Keys[i]
			if Algorithm(k.Algorithm) == a && k.RevokedAt.IsZero() && (latest == nil || k.ActiveAt.After(latest.ActiveAt)) {
				latest = k
			}
		}
		switch {
		case latest == nil:
			// An algorithm that is new to the configuration.
			if err := r.append(ring, a, now, now); err != nil {
				return false, err
			}
			changed = true
		case !latest.ActiveAt.Add(c.RotateEvery - c.PublishAhead).After(now):
			active := latest.ActiveAt.Add(c.RotateEvery)
			if least := now.Add(min(c.PublishAhead, handover)); active.Before(least) {
				active = least // the server was off when it was due
			}
			if err := r.append(ring, a, now, active); err != nil {
				return false, err
			}
			changed = true
		}
	}
	if r.retire(ring, now) {
		changed = true
	}
	before := len(ring.Keys)
	ring.Keys = slices.DeleteFunc(ring.Keys, func(k storage.Key) bool { return r.forgettable(k, now) })
	return changed || len(ring.Keys) != before, nil
}

// retire writes down since when a key has a successor that signs.
func (r *Ring) retire(ring *storage.KeyRing, now time.Time) (changed bool) {
	for i := range ring.Keys {
		k := &ring.Keys[i]
		if !k.RetiredAt.IsZero() || !k.RevokedAt.IsZero() {
			continue
		}
		for _, other := range ring.Keys {
			if other.Algorithm == k.Algorithm && other.RevokedAt.IsZero() && other.ActiveAt.After(k.ActiveAt) && !other.ActiveAt.After(now) {
				k.RetiredAt, changed = other.ActiveAt, true
				break
			}
		}
	}
	return changed
}

// forgettable reports whether no token signed by k can still be good. A
// revoked key is remembered as long, so that an operator sees it.
func (r *Ring) forgettable(k storage.Key, now time.Time) bool {
	end := k.RetiredAt
	if !k.RevokedAt.IsZero() {
		end = k.RevokedAt
	}
	return !end.IsZero() && !end.Add(r.config.TokenLife+Skew).After(now)
}

func (r *Ring) append(ring *storage.KeyRing, a Algorithm, created, active time.Time) error {
	k, err := r.generate(a, created, active)
	if err != nil {
		return err
	}
	ring.Keys = append(ring.Keys, k)
	r.config.Log.Info("signing key published", "kid", k.ID, "alg", string(a), "signs_from", active)
	return nil
}

// Rotate publishes a successor for the key of an algorithm. It takes over
// after a quarter of an hour, when every verifier has it.
func (r *Ring) Rotate(ctx context.Context, a Algorithm) error {
	if !slices.Contains(r.config.Algorithms, a) {
		return fmt.Errorf("the ring holds no %s key: one of %v expected", a, r.config.Algorithms)
	}
	return r.update(ctx, func(ring *storage.KeyRing) (bool, error) {
		now := r.config.Now()
		for i := range ring.Keys {
			k := &ring.Keys[i]
			if Algorithm(k.Algorithm) == a && k.RevokedAt.IsZero() && k.ActiveAt.After(now) {
				// The next key is published already: it takes over earlier.
				if early := later(k.CreatedAt.Add(handover), now); early.Before(k.ActiveAt) {
					k.ActiveAt = early
				}
				return true, nil
			}
		}
		return true, r.append(ring, a, now, now.Add(handover))
	})
}

// ErrNoKey says that there is no such key, or that it is revoked already.
var ErrNoKey = errors.New("no such key; see: solegate key list")

// Revoke withdraws a key that leaked: it is unpublished, signs nothing any
// more and nothing it signed is accepted here. Its successor, the next key or
// a new one, signs at once. APIs refuse the key's tokens as soon as they fetch
// the set again; those that follow the feed must be told of it before, which
// revocation.Revoker.RevokeKey does.
func (r *Ring) Revoke(ctx context.Context, kid, reason string) error {
	err := r.update(ctx, func(ring *storage.KeyRing) (bool, error) {
		now := r.config.Now()
		i := slices.IndexFunc(ring.Keys, func(k storage.Key) bool { return k.ID == kid && k.RevokedAt.IsZero() })
		if i < 0 {
			return false, ErrNoKey
		}
		a := Algorithm(ring.Keys[i].Algorithm)
		ring.Keys[i].RevokedAt = now
		ring.Keys[i].Sealed = nil // nobody shall ever open it again
		var next *storage.Key
		for j := range ring.Keys {
			k := &ring.Keys[j]
			if Algorithm(k.Algorithm) != a || !k.RevokedAt.IsZero() || !k.RetiredAt.IsZero() {
				continue
			}
			if !k.ActiveAt.After(now) {
				return true, nil // another one signs
			}
			if next == nil || k.ActiveAt.Before(next.ActiveAt) {
				next = k
			}
		}
		if next != nil {
			next.ActiveAt = now
			return true, nil
		}
		return true, r.append(ring, a, now, now)
	})
	if err == nil {
		r.config.Log.Warn("signing key revoked", "kid", kid, "reason", reason)
	}
	return err
}

// Reseal seals everything with the current master key. After it the previous
// master keys are needed no more.
func (r *Ring) Reseal(ctx context.Context) error {
	m := r.config.Master
	return r.update(ctx, func(ring *storage.KeyRing) (changed bool, err error) {
		reseal := func(purpose string, sealed *[]byte) {
			if err != nil || *sealed == nil || m.isCurrent(*sealed) {
				return
			}
			var plain []byte
			if plain, err = m.Open(purpose, *sealed); err == nil {
				*sealed, changed = m.Seal(purpose, plain), true
			}
		}
		reseal(rootPurpose, &ring.Root)
		for i := range ring.Keys {
			reseal(keyPurpose(ring.Keys[i].ID), &ring.Keys[i].Sealed)
		}
		return changed, err
	})
}

// update changes the stored ring by compare-and-swap: if another process was
// faster, its ring is read and the change decided again.
func (r *Ring) update(ctx context.Context, change func(*storage.KeyRing) (bool, error)) error {
	r.change.Lock()
	defer r.change.Unlock()
	for range 10 {
		ring := r.snap.Load().stored
		ring.Keys = slices.Clone(ring.Keys)
		changed, err := change(&ring)
		if err != nil || !changed {
			return err
		}
		// Outcome unknown or lost to another: what is stored decides.
		err = r.config.Store.PutKeyRing(ctx, ring)
		if reloadErr := r.Reload(ctx); reloadErr != nil {
			return errors.Join(err, reloadErr)
		}
		if err == nil || !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("the key ring keeps being changed by others: %w", storage.ErrConflict)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
