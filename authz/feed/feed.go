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

	// Status is handed every event that counts, nil for nobody. It keeps what
	// it was handed when the store turns out to have lost events.
	Status interface {
		Apply(storage.Event)
		// Forget is called now and then with the time.
		Forget(time.Time)
	}

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

	// reading is held by whoever reads from the store. failed is of who holds
	// it: the last error of Current, and since when.
	reading  chan struct{}
	failed   error
	failedAt time.Time

	// mu guards all below.
	mu       sync.Mutex
	running  bool
	position wire.Cursor // up to where everything was read
	asOf     time.Time   // and all that was in the store by then
	// revoked are the keys that events name, with the place of the event.
	revoked map[string]wire.Cursor
	// tokens are the jti that events name, with when they count no more, in
	// Unix seconds.
	tokens map[string]int64
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
		streams: map[string]*stream{}, pages: map[pageKey]*Page{}, revoked: map[string]wire.Cursor{}, tokens: map[string]int64{}, audiences: map[string][]string{},
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
