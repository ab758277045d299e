package verify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// pool is verify.Shared within this process, for replicas that share it.
type pool struct {
	now     func() time.Time
	charged chan int // how many were charged, for each call

	mu   sync.Mutex
	full map[[32]byte]time.Time
	err  error
	hang bool
}

func (p *pool) Charge(ctx context.Context, charges []verify.Charge) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hang {
		<-ctx.Done()
		p.charged <- -1
		return ctx.Err()
	}
	if p.err != nil {
		p.charged <- -1
		return p.err
	}
	now := p.now()
	for i := range charges {
		c := &charges[i]
		if p.full[c.Key].Before(now) {
			p.full[c.Key] = now
		}
		p.full[c.Key] = p.full[c.Key].Add(c.Cost)
		c.Backlog = p.full[c.Key].Sub(now)
	}
	p.charged <- len(charges)
	return nil
}

func (p *pool) set(err error, hang bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.hang = err, hang
}

// replicas are APIs over HTTP that share a pool.
type replicas struct {
	*world
	*pool
	urls   []string
	log    lockedLog
	guests atomic.Int64
}

// lockedLog is a log that can be read while it is written.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newReplicas(t *testing.T) *replicas {
	w := newWorld(t)
	s := &replicas{world: w, pool: &pool{now: w.clock.Now, charged: make(chan int, 100), full: map[[32]byte]time.Time{}}}
	for range 2 {
		v := w.verifier(t, func(c *verify.Config) {
			c.Limits.Shared = s.pool
			c.Log = slog.New(slog.NewTextHandler(&s.log, nil))
		})
		server := httptest.NewServer(v.Require()(v.Limit(verify.Limit{Name: "orders", Requests: 10, Window: 10 * time.Second})(ok)))
		t.Cleanup(server.Close)
		s.urls = append(s.urls, server.URL)
	}
	return s
}

// hammer asks one replica n times as a subject and returns how many passed.
func (s *replicas) hammer(t *testing.T, replica, n int, subject string) (passed int) {
	t.Helper()
	token := s.Token(map[string]any{"sub": subject})
	for range n {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.urls[replica], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch resp.StatusCode {
		case 200:
			passed++
		case 429:
		default:
			t.Fatalf("answered %d", resp.StatusCode)
		}
	}
	return passed
}

// settle waits until all that was used at a replica is charged, and the answer
// applied: it makes a request of somebody new, waits until that is charged, too,
// and does so again, as a replica charges one after the other.
func (s *replicas) settle(t *testing.T, replica int) {
	t.Helper()
	known := func() int {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		return len(s.full)
	}
	for range 2 {
		before := known()
		s.hammer(t, replica, 1, fmt.Sprintf("new-%d-%d", replica, s.guests.Add(1)))
		for known() == before {
			<-s.charged
		}
	}
}

func TestReplicasCountTogether(t *testing.T) {
	s := newReplicas(t)
	if got := s.hammer(t, 0, 15, "mallory"); got != 10 {
		t.Fatalf("%d passed at the first replica, 10 expected", got)
	}
	s.settle(t, 0)
	if got := s.hammer(t, 1, 1, "mallory"); got != 1 {
		t.Fatalf("%d passed at the second replica, before it could know", got)
	}
	s.settle(t, 1)
	if got := s.hammer(t, 1, 5, "mallory"); got != 0 {
		t.Errorf("%d passed at the second replica when it knew", got)
	}
	// Eleven were used of ten: after eight seconds there are seven.
	s.clock.advance(8 * time.Second)
	if got := s.hammer(t, 1, 20, "mallory"); got != 7 {
		t.Errorf("%d passed at the second replica, 7 expected", got)
	}
	// What it used counts at the first one.
	s.settle(t, 1)
	s.clock.advance(time.Second)
	if got := s.hammer(t, 0, 1, "mallory"); got != 1 {
		t.Errorf("%d passed at the first replica", got)
	}
	s.settle(t, 0)
	if got := s.hammer(t, 0, 20, "mallory"); got != 0 {
		t.Errorf("%d passed at the first replica when it knew", got)
	}
	if got := s.hammer(t, 1, 15, "alice"); got != 10 {
		t.Errorf("%d of somebody else passed, 10 expected", got)
	}
}

// TestReplicasGoOnAlone while the pool is down, or hangs.
func TestReplicasGoOnAlone(t *testing.T) {
	for name, fail := range map[string]func(*pool){
		"down":  func(p *pool) { p.set(errors.New("connection refused"), false) },
		"hangs": func(p *pool) { p.set(nil, true) },
	} {
		s := newReplicas(t)
		fail(s.pool)
		if got := s.hammer(t, 0, 15, "mallory"); got != 10 {
			t.Errorf("%s: %d passed, 10 expected", name, got)
		}
		for range 2 {
			if n := <-s.charged; n != -1 {
				t.Fatalf("charged %d", n)
			}
			s.hammer(t, 0, 1, "alice")
		}
		s.set(nil, false)
		s.settle(t, 0)
		if got := s.hammer(t, 0, 5, "mallory"); got != 0 {
			t.Errorf("%s: %d passed when it was there again", name, got)
		}
		if log := s.log.String(); strings.Count(log, "can't be charged") != 1 || strings.Count(log, "charged again") != 1 {
			t.Errorf("%s: the log says\n%s", name, log)
		}
	}
}
