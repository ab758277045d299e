package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
)

// watcher waits for events on behalf of everybody in this process who does, on
// a connection of its own: one that waits in Redis can't be used for anything
// else, and must not be missing where commands are sent. It runs while somebody
// waits.
type watcher struct {
	client redis.UniversalClient
	ctx    context.Context // ends with the store
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	running bool
	waiting int           // callers
	woken   chan struct{} // closed when they should look again
}

// oneWait is how long one wait in Redis lasts: a server that was left behind by a
// failover is noticed after it.
const oneWait = time.Second

func newWatcher(client redis.UniversalClient) *watcher {
	w := &watcher{client: client, woken: make(chan struct{})}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// join counts a caller in.
func (w *watcher) join(s *Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting++
	if !w.running && w.ctx.Err() == nil {
		w.running = true
		w.work.Go(func() { w.run(s) })
	}
}

func (w *watcher) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
}

// next is closed when a caller who looked after it was given should look again.
func (w *watcher) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.woken
}

func (w *watcher) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.woken)
	w.woken = make(chan struct{})
}

// run wakes the callers whenever the last event is another one than before,
// and when that is not known: then each looks for itself, and learns from the
// store's own connections how things are.
func (w *watcher) run(s *Store) {
	known, failures := "", 0
	for {
		last, err := w.last(s)
		if err != nil || last != known {
			w.wake()
		}
		if known = last; err == nil {
			failures = 0
			err = w.wait(s, last)
		}
		if err != nil {
			known = "" // whoever is asked next may have another history
			pause(w.ctx, failures)
			failures++
		}
		w.mu.Lock()
		if w.waiting == 0 || w.ctx.Err() != nil {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// last returns the entry of the last event, "0-0" if there is none.
func (w *watcher) last(s *Store) (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx, s.timeout)
	defer cancel()
	entries, err := w.client.XRevRangeN(ctx, s.eventsKey(), "+", "-", 1).Result()
	switch {
	case err != nil:
		return "", err
	case len(entries) == 0:
		return "0-0", nil
	}
	return entries[0].ID, nil
}

// wait returns when there is an event after that entry, or after a while.
func (w *watcher) wait(s *Store, last string) error {
	ctx, cancel := context.WithTimeout(w.ctx, oneWait+s.timeout)
	defer cancel()
	err := w.client.XRead(ctx, &redis.XReadArgs{Streams: []string{s.eventsKey(), last}, Count: 1, Block: oneWait}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// close ends the wait.
func (w *watcher) close() error {
	w.mu.Lock()
	w.stop() // nobody begins after it
	w.mu.Unlock()
	err := w.client.Close() // ends what waits in Redis
	w.work.Wait()
	return err
}

// AwaitEvents implements [storage.Events].
func (s *Store) AwaitEvents(ctx context.Context, after storage.Cursor) error {
	s.watch.join(s)
	defer s.watch.leave()
	for {
		woken := s.watch.next()
		list, _, err := s.Events(ctx, after, 1)
		if err != nil || len(list) > 0 {
			return err
		}
		select {
		case <-woken:
		case <-s.watch.ctx.Done():
			return s.begin(ctx)
		case <-ctx.Done():
			return s.begin(ctx)
		}
	}
}
