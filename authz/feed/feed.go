// Package feed tells APIs what has stopped being valid, as it happens: the
// server's side of the revocation feed, whose wire format is in keys/verify/feed.
//
// A [Hub] is the one reader of the store's events in a process. It keeps those
// that still count in memory, so that neither a stream nor a snapshot costs the
// store more than a look whether there is something new. [Hub.Subscribe] gives
// a stream for one audience, [Hub.Snapshot] a page of what counts. Who asks, and
// for which audience, the caller has checked.
//
// # What is promised
//
// An audience sees the events that concern it, in their order, each signed once
// at a server, with no gap. A heartbeat is signed only after the store was
// asked, so it says what is true of the store and not of this process: a server
// that is cut off from the store falls silent, and its readers go to another
// one. A stream that is read too slowly is ended: the reader comes again where
// it was.
package feed

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// Config is what a [Hub] is made of. Issuer, Store, Sign and Signer are
// required.
type Config struct {
	Issuer string
	Store  storage.Events
	// Sign signs claims with the typ in the header.
	Sign func(typ string, claims []byte) (string, error)
	// Signer is the kid of the key that Sign would sign with now. What another
	// one signed is signed again, and nothing is signed by one that an event
	// has named: its thief could hide events behind heartbeats.
	Signer func() string
	// Reload makes Sign and Signer know the keys as they are in the store; nil
	// for keys that are nowhere else.
	Reload func(context.Context) error

	// Heartbeat is how often a stream on which nothing happens says so: 5
	// seconds if zero.
	Heartbeat time.Duration
	// Backlog is how many messages of an audience are kept for those that come
	// again: 4096 if zero. A reader that is farther behind needs a snapshot.
	Backlog int
	// WriteTimeout is how long one write to a stream may take: 10 seconds if
	// zero.
	WriteTimeout time.Duration

	// Log takes what happened; nil discards it.
	Log *slog.Logger
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Ticks, if not nil, are when heartbeats are due, in place of Heartbeat.
	Ticks <-chan time.Time
}

// What Subscribe and Snapshot answer; test with [errors.Is].
var (
	// ErrCursor: it is impossible to go on from the cursor.
	ErrCursor = errors.New("the cursor is none to go on from")
	// ErrStopped: Run was not called, or has ended.
	ErrStopped = errors.New("the feed is not running")
	// ErrFull: there are too many streams.
	ErrFull = errors.New("there are too many streams")
)

// maxStreams bounds the streams of a process, and maxAudiences the audiences
// whose messages are kept.
const (
	maxStreams   = 4096
	maxAudiences = 1024
)

// readAtOnce is how many events are read from the store in one trip.
const readAtOnce = 1000

// Hub reads the store's events and hands them on. It is safe for concurrent
// use.
type Hub struct {
	config Config

	// reading is held by whoever reads from the store.
	reading chan struct{}

	// mu guards all below.
	mu       sync.Mutex
	running  bool
	position wire.Cursor // up to where everything was read
	asOf     time.Time   // and all that was in the store by then
	// revoked are the keys that events name, with the place of the event.
	revoked map[string]wire.Cursor
	// live are the events that still count, in order.
	live []entry
	// tail are the last events, with what an entry leaves out; before is the
	// place before them: all events between the two that count are in tail.
	tail    []storage.Event
	before  wire.Cursor
	streams map[string]*stream // by audience
	open    int                // subscribers
	pruned  time.Time
	pages   map[pageKey]*Page
	// audiences are the lists of audiences of live events, each once.
	audiences map[string][]string
}

// entry is an event that counts, as small as it can be: there may be a million.
type entry struct {
	cursor    wire.Cursor
	kind      wire.Kind
	subject   string
	epoch     uint64
	notBefore int64 // Unix seconds
	until     int64
	audiences []string // nil for everyone
}

// New returns a Hub. It reads nothing yet.
func New(c Config) (*Hub, error) {
	if c.Issuer == "" || c.Store == nil || c.Sign == nil || c.Signer == nil {
		return nil, errors.New("feed: Issuer, Store, Sign and Signer are required")
	}
	c.Heartbeat = cmp.Or(c.Heartbeat, 5*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.Backlog = cmp.Or(c.Backlog, 4096)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Hub{
		config: c, reading: make(chan struct{}, 1),
		streams: map[string]*stream{}, pages: map[pageKey]*Page{}, revoked: map[string]wire.Cursor{}, audiences: map[string][]string{},
	}, nil
}

// Run follows the store until ctx ends, and then ends the streams. It returns
// ctx's error.
func (h *Hub) Run(ctx context.Context) error {
	h.mu.Lock()
	h.running = true
	h.mu.Unlock()
	defer h.End()
	var work sync.WaitGroup
	work.Go(func() { h.follow(ctx) })
	work.Go(func() { h.beat(ctx) })
	work.Wait()
	return ctx.Err()
}

// End ends all streams, and no new one begins: the server shuts down. Their
// readers come again, at another server if there is one.
func (h *Hub) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = false
	for _, st := range h.streams {
		for s := range st.subscribers {
			s.end()
		}
	}
}

// pause is between two tries to reach a store that fails.
const pause = time.Second

// follow reads what is new whenever there is something.
func (h *Hub) follow(ctx context.Context) {
	failing := false
	for {
		h.mu.Lock()
		at := h.position
		h.mu.Unlock()
		err := h.config.Store.AwaitEvents(ctx, storage.Cursor(at))
		if err == nil || errors.Is(err, storage.ErrCursor) {
			err = h.read(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			h.config.Log.Error("the store's events can't be read; streams get no heartbeats until they can", "error", err)
		case err == nil && failing:
			h.config.Log.Info("the store's events can be read again")
		}
		if failing = err != nil; failing {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

// beat sends heartbeats, and forgets what no token can be hit by any more.
func (h *Hub) beat(ctx context.Context) {
	ticks := h.config.Ticks
	if ticks == nil {
		ticker := time.NewTicker(h.config.Heartbeat)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		within, cancel := context.WithTimeout(ctx, h.config.Heartbeat)
		err := h.read(within)
		cancel()
		h.mu.Lock()
		for _, st := range h.streams {
			st.beat(err == nil)
		}
		h.prune(h.config.Now())
		h.mu.Unlock()
	}
}

// read reads all that the store has by now.
func (h *Hub) read(ctx context.Context) error {
	select {
	case h.reading <- struct{}{}:
		defer func() { <-h.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
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
	if w.Kind == wire.Key {
		h.revoked[w.Subject] = wire.Cursor(e.Cursor)
	}
	until := w.Until.Unix()
	if w.Until.Nanosecond() > 0 {
		until++
	}
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
