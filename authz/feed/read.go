package feed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// read reads all that the store has by now.
func (h *Hub) read(ctx context.Context) error {
	select {
	case h.reading <- struct{}{}:
		defer func() { <-h.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return h.readOn(ctx)
}

// readOn is read for who holds reading.
func (h *Hub) readOn(ctx context.Context) error {
	for {
		h.mu.Lock()
		at := h.position
		h.mu.Unlock()
		// The time of before: the store may change right after it answered.
		asOf := h.config.Now()
		list, next, err := h.config.Store.Events(ctx, storage.Cursor(at), readAtOnce)
		if errors.Is(err, storage.ErrCursor) && at != "" {
			h.beginAnew()
			continue
		}
		if err != nil {
			return err
		}
		h.take(list, wire.Cursor(next))
		if len(list) < readAtOnce {
			h.mu.Lock()
			h.asOf = asOf
			h.mu.Unlock()
			return nil
		}
	}
}

// Current returns as of when everything was read that the store has. If that is
// longer ago than within, the store is asked first: by one at a time, and after
// an error not again for as long, so that many who ask cost the store little.
func (h *Hub) Current(ctx context.Context, within time.Duration) (time.Time, error) {
	current := func() (time.Time, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		age := h.config.Now().Sub(h.asOf)
		return h.asOf, !h.asOf.IsZero() && age >= 0 && age <= within
	}
	if at, ok := current(); ok {
		return at, nil
	}
	select {
	case h.reading <- struct{}{}:
		defer func() { <-h.reading }()
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	if at, ok := current(); ok {
		return at, nil
	}
	if now := h.config.Now(); h.failed != nil && !now.Before(h.failedAt) && now.Sub(h.failedAt) < within {
		return time.Time{}, h.failed
	}
	// Who goes away must not make it fail for the others who wait.
	err := h.readOn(context.WithoutCancel(ctx))
	h.failed, h.failedAt = err, h.config.Now()
	if err != nil {
		return time.Time{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asOf, nil
}

// TokenRevoked reports whether an event names the token with this jti. The
// store was asked.
func (h *Hub) TokenRevoked(ctx context.Context, jti string) (bool, error) {
	if err := h.read(ctx); err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, revoked := h.tokens[jti]
	return revoked, nil
}

// Signer returns the kid of the key that may sign what is true now.
func (h *Hub) Signer(ctx context.Context) (string, error) { return h.signer(ctx, endOfAll) }

// beginAnew forgets everything, because the store has another history than was
// read. Every stream ends: its reader's place is none in the new one, and it
// keeps what it read before.
func (h *Hub) beginAnew() {
	h.config.Log.Warn("the store has lost events that were read before, as after a failover or a restored backup; reading it from the beginning")
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, st := range h.streams {
		for s := range st.subscribers {
			s.end()
		}
	}
	h.position, h.before, h.live, h.tail = "", "", nil, nil
	clear(h.streams)
	clear(h.pages)
	clear(h.revoked)
}

// known reports whether a cursor is a place in what was read: ErrCursor if it
// is none. What is no longer in memory the store knows.
func (h *Hub) known(ctx context.Context, c wire.Cursor) error {
	h.mu.Lock()
	found := c == "" || c == h.position
	if !found {
		_, found = slices.BinarySearchFunc(h.live, c, func(e entry, c wire.Cursor) int { return strings.Compare(string(e.cursor), string(c)) })
	}
	ahead := c > h.position
	h.mu.Unlock()
	if found || ahead {
		if ahead {
			return ErrCursor
		}
		return nil
	}
	_, _, err := h.config.Store.Events(ctx, storage.Cursor(c), 1)
	if errors.Is(err, storage.ErrCursor) {
		return ErrCursor
	}
	return err
}

// take takes what was read: all events up to next.
func (h *Hub) take(list []storage.Event, next wire.Cursor) {
	now := h.config.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range list {
		if !e.Until.After(now) {
			continue // no token can be hit by it any more
		}
		w := eventOf(e)
		err := w.Valid()
		if err == nil && w.ID == "" {
			err = errors.New("it has no identifier")
		}
		if err != nil {
			h.config.Log.Error("an event in the store can't be sent to any API; whatever it ends lives on there until it expires", "event", e.ID, "kind", string(e.Kind), "error", err)
			continue
		}
		h.add(e, now)
	}
	h.position = next
}

func (h *Hub) add(e storage.Event, now time.Time) {
	var audiences []string
	if len(e.Audiences) > 0 {
		key := ""
		for _, a := range e.Audiences {
			key += a + "\n"
		}
		if audiences = h.audiences[key]; audiences == nil {
			audiences = e.Audiences
			h.audiences[key] = audiences
		}
	}
	w := eventOf(e)
	until := w.Until.Unix()
	if w.Until.Nanosecond() > 0 {
		until++
	}
	switch w.Kind {
	case wire.Key:
		h.revoked[w.Subject] = wire.Cursor(e.Cursor)
	case wire.Token:
		h.tokens[w.Subject] = max(h.tokens[w.Subject], until)
	}
	if h.config.Status != nil {
		h.config.Status.Apply(e)
	}
	e.Status = nil // no API is told of it
	h.live = append(h.live, entry{
		cursor: wire.Cursor(e.Cursor), kind: w.Kind, subject: w.Subject, epoch: w.Epoch,
		notBefore: w.NotBefore.Unix(), until: until, audiences: audiences,
	})
	h.tail = append(h.tail, e)
	if extra := len(h.tail) - h.config.Backlog; extra > 0 {
		h.before = wire.Cursor(h.tail[extra-1].Cursor)
		h.tail = slices.Delete(h.tail, 0, extra)
	}
	for _, st := range h.streams {
		if concerns(audiences, st.audience) {
			st.append(h, e, now)
		}
	}
}

// prune forgets events that are past, once a minute.
func (h *Hub) prune(now time.Time) {
	if now.Sub(h.pruned) < time.Minute {
		return
	}
	h.pruned = now
	past := now.Unix()
	h.live = slices.DeleteFunc(h.live, func(e entry) bool { return e.until <= past })
	if cap(h.live) > 4*len(h.live)+1024 {
		h.live = slices.Clip(slices.Clone(h.live))
	}
	first := h.position
	if len(h.live) > 0 {
		first = h.live[0].cursor
	}
	for kid, at := range h.revoked {
		if at < first {
			delete(h.revoked, kid) // nothing that it signed is accepted anywhere
		}
	}
	for jti, until := range h.tokens {
		if until <= past {
			delete(h.tokens, jti)
		}
	}
	if h.config.Status != nil {
		h.config.Status.Forget(now)
	}
	clear(h.audiences)
	clear(h.pages)
}

// concerns reports whether an event for the audiences concerns one. Who an
// event is for is compared whole: an audience learns nothing of another's.
func concerns(audiences []string, one string) bool {
	return len(audiences) == 0 || slices.Contains(audiences, one)
}

func eventOf(e storage.Event) wire.Event {
	return wire.Event{ID: e.ID, Kind: wire.Kind(e.Kind), Subject: e.Subject, Epoch: e.Epoch, NotBefore: e.NotBefore, Until: e.Until, Reason: e.Reason}
}
