package main

import (
	"context"
	"errors"
	"time"

	"github.com/solegate/solegate/storage"
)

// witness reads the store's events in this process, as each server does in its
// own: how soon says how much of the time is the store's.
type witness struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it reads no more

	// Of its goroutine until then, by the user that was blocked.
	event map[string]time.Time // when the event says that it happened
	read  map[string]time.Time
}

// witness begins to read, after what is there. It must be stopped.
func (r *replicas) witness(ctx context.Context) (*witness, error) {
	store, err := openStore(ctx, r.store())
	if err != nil {
		return nil, err
	}
	var at storage.Cursor
	for more := true; more; {
		var list []storage.Event
		if list, at, err = store.Events(ctx, at, eventsAtOnce); err != nil {
			return nil, errors.Join(err, store.Close())
		}
		more = len(list) == eventsAtOnce
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &witness{cancel: cancel, done: make(chan struct{}), event: map[string]time.Time{}, read: map[string]time.Time{}}
	go func() {
		defer close(w.done)
		defer store.Close()
		for ctx.Err() == nil {
			var list []storage.Event
			err := store.AwaitEvents(ctx, at)
			if err == nil {
				list, at, err = store.Events(ctx, at, eventsAtOnce)
			}
			now := time.Now()
			for _, e := range list {
				w.event[e.Subject], w.read[e.Subject] = e.NotBefore, now
			}
			if errors.Is(err, storage.ErrCursor) {
				at = ""
			} else if err != nil {
				wait(ctx, retryEvery)
			}
		}
	}()
	return w, nil
}

// stop ends the reading.
func (w *witness) stop() {
	w.cancel()
	<-w.done
}

// lastLook is how long after everything the witness may still read something.
const lastLook = 200 * time.Millisecond

// tell ends the reading and writes down what was read.
func (w *witness) tell(ctx context.Context, list []refusal) {
	wait(ctx, lastLook)
	w.stop()
	for i := range list {
		id := string(list[i].id)
		list[i].event, list[i].read = w.event[id], w.read[id]
	}
}
