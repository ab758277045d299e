package backchannel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// memory is a queue without a file, for tests in which time is synthetic.
type memory struct {
	Store
	mu     sync.Mutex
	list   []storage.Logout
	claims int
}

func (m *memory) ClaimLogouts(_ context.Context, now, again time.Time, limit int) ([]storage.Logout, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims++
	var due []storage.Logout
	for i := range m.list {
		if l := &m.list[i]; !l.DueAt.After(now) && len(due) < limit {
			l.DueAt = again
			due = append(due, *l)
		}
	}
	return due, nil
}

func (m *memory) DeferLogout(_ context.Context, _ clients.ID, id storage.SessionID, due time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].Session == id {
			m.list[i].DueAt = due
		}
	}
	return nil
}

func (m *memory) FinishLogout(_ context.Context, _ clients.ID, id storage.SessionID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = slices.DeleteFunc(m.list, func(l storage.Logout) bool { return l.Session == id })
	return nil
}

func (m *memory) add(ids ...storage.SessionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.list = append(m.list, storage.Logout{Client: "rp", Session: id, CreatedAt: time.Now(), DueAt: time.Now(), Expires: time.Now().Add(tryFor)})
	}
}

func (m *memory) SessionUser(context.Context, storage.SessionID) (storage.Session, storage.User, error) {
	return storage.Session{}, storage.User{}, storage.ErrNotFound
}

func (m *memory) Client(context.Context, clients.ID) (clients.Client, error) {
	return clients.Client{ID: "rp", BackchannelLogoutURI: "https://rp.example.com", IDTokenAlg: "EdDSA"}, nil
}

// pass lets time pass in a bubble, where nobody waits for it, and all that is due
// happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestRun(t *testing.T) {
	w := newWorld(t, "")
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		q := NewQueue(m, w.logger(), time.Now)
		var at []time.Duration
		var under, most atomic.Int64
		var mu sync.Mutex
		began := time.Now()
		s := w.sender(m, q, func(ctx context.Context, _, _ string) (int, error) {
			mu.Lock()
			at = append(at, time.Since(began))
			mu.Unlock()
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			return 200, nil
		})
		s.Now = time.Now
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		synctest.Wait()

		m.add("u.here")
		q.notify()
		synctest.Wait()
		if mu.Lock(); len(at) != 1 || at[0] != 0 {
			t.Errorf("what this process adds is sent at %v, at once expected", at)
		}
		mu.Unlock()
		pass(10 * time.Second)
		m.add("u.there") // by the command line: nobody says so
		pass(pollEvery)
		if mu.Lock(); len(at) != 2 {
			t.Error("what another process added was not found within one poll")
		}
		mu.Unlock()
		pass(10 * time.Second)

		ids := make([]storage.SessionID, 3*concurrent)
		for i := range ids {
			ids[i] = storage.SessionID(fmt.Sprintf("u.%d", i))
		}
		m.add(ids...)
		q.notify()
		pass(6*time.Second + time.Millisecond)
		if len(m.list) != 0 || most.Load() != concurrent {
			t.Errorf("%d left after three rounds, %d at once; none and %d expected", len(m.list), most.Load(), concurrent)
		}

		// What is under way when the server stops is finished.
		m.add("u.last")
		q.notify()
		synctest.Wait()
		stop()
		synctest.Wait()
		select {
		case <-done:
			t.Error("Run ended in the middle of an attempt")
		default:
		}
		<-done
		if len(m.list) != 0 {
			t.Error("the attempt under way was not finished")
		}
		// An idle server asks the store every few seconds, not more often.
		m.claims = 0
		ctx, stop = context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		s.Run(ctx)
		if most := int(time.Minute/pollEvery) + 2; m.claims > most {
			t.Errorf("%d claims in a minute, %d expected", m.claims, most)
		}
	})
}

// TestAttemptEndsWithItsTime: a receiver that never answers.
func TestAttemptEndsWithItsTime(t *testing.T) {
	w := newWorld(t, "")
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		s := w.sender(m, NewQueue(m, w.logger(), time.Now), func(ctx context.Context, _, _ string) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		s.Now = time.Now
		m.add("u.s")
		began := time.Now()
		s.deliver1(t)
		if took := time.Since(began); took != attemptFor {
			t.Errorf("it took %s, %s expected", took, attemptFor)
		}
		if len(m.list) != 1 || m.list[0].DueAt.Before(time.Now()) {
			t.Errorf("it is not tried again later: %+v", m.list)
		}
	})
}

func TestStoreThatIsDownIsSaidOnce(t *testing.T) {
	w := newWorld(t, "")
	synctest.Test(t, func(t *testing.T) {
		s := w.sender(downStore{}, NewQueue(downStore{}, w.logger(), time.Now), nil)
		s.Now = time.Now
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		s.Run(ctx)
	})
	if n := strings.Count(w.logged(), "can't be read from the store"); n != 1 {
		t.Errorf("it was logged %d times, once expected", n)
	}
}

type downStore struct{ Store }

func (downStore) ClaimLogouts(context.Context, time.Time, time.Time, int) ([]storage.Logout, error) {
	return nil, storage.ErrUnavailable
}
