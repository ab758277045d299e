package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// Bounds of introspection.
const (
	answerLife       = time.Second
	introspectWithin = 5 * time.Second
	introspectSlots  = 16   // questions at the same time
	maxAnswers       = 4096 // questions that wait, and answers of the last second
)

// introspector asks the issuer about tokens (RFC 7662), each once a second.
type introspector struct {
	follower *follower
	slots    chan struct{}

	mu       sync.Mutex // guards what follows
	endpoint string
	answers  map[[32]byte]*answer // by the token's hash
}

// answer is one that is there once done is closed.
type answer struct {
	done   chan struct{}
	came   time.Time // by the runtime's clock
	active bool
	err    error
}

func newIntrospector(f *follower) *introspector {
	return &introspector{follower: f, slots: make(chan struct{}, introspectSlots), answers: map[[32]byte]*answer{}}
}

// at sets the endpoint's address, which may be empty.
func (i *introspector) at(endpoint string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.endpoint = endpoint
}

// active reports whether the issuer says that a token is active. Callers with
// the same token share one question.
func (i *introspector) active(ctx context.Context, sum [32]byte, token string) (bool, error) {
	i.mu.Lock()
	a := i.answers[sum]
	if a == nil || a.old() {
		if len(i.answers) >= maxAnswers {
			for sum, a := range i.answers {
				if a.old() {
					delete(i.answers, sum)
				}
			}
			if len(i.answers) >= maxAnswers {
				i.mu.Unlock()
				return false, fmt.Errorf("the issuer is being asked about %d tokens already", maxAnswers)
			}
		}
		a = &answer{done: make(chan struct{})}
		i.answers[sum] = a
		endpoint := i.endpoint
		// The one who asked first may go away, the others still wait.
		go i.ask(context.WithoutCancel(ctx), endpoint, token, a)
	}
	i.mu.Unlock()
	select {
	case <-a.done:
		return a.active, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// old reports whether the answer came too long ago.
func (a *answer) old() bool {
	select {
	case <-a.done:
		return time.Since(a.came) >= answerLife
	default:
		return false
	}
}

func (i *introspector) ask(ctx context.Context, endpoint, token string, a *answer) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(ctx, introspectWithin)
	defer cancel()
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
		a.came = time.Now() // an answer is as old as its question
		a.active, a.err = i.question(ctx, endpoint, token)
	case <-ctx.Done():
		a.came, a.err = time.Now(), errors.New("too many tokens are being asked about")
	}
}

func (i *introspector) question(ctx context.Context, endpoint, token string) (active bool, err error) {
	f := i.follower
	if endpoint == "" {
		return false, errors.New("the issuer's introspection_endpoint is not known")
	}
	if err := f.issuers(endpoint); err != nil {
		return false, err
	}
	resp, err := f.send(ctx, endpoint, "application/json", url.Values{"token": {token}, "token_type_hint": {"access_token"}})
	if err != nil {
		return false, err
	}
	if err := expect(resp, endpoint, "application/json"); err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return false, err
	}
	found := false
	err = strict.Object(body, func(name, value string) error {
		if name == "active" {
			found, active = true, value == "true"
			if value != "true" && value != "false" {
				return fmt.Errorf("active is %.20q", value)
			}
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("active is missing (RFC 7662 §2.2)")
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", endpoint, err)
	}
	return active, nil
}
