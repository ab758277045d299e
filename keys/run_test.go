package keys_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// The clock of these tests is the bubble's: waiting takes no time.

func TestRunNoticesWhatOthersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		real := func(c *keys.Config) {
			c.Now, c.RotateEvery, c.PublishAhead, c.TokenLife = time.Now, time.Hour, 10*time.Minute, 10*time.Minute
		}
		here, elsewhere := f.open(t, real), f.open(t, real)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- here.Run(ctx) }()

		leaked := kid(t, sign(t, here, keys.ES256))
		if err := elsewhere.Revoke(t.Context(), leaked, "leaked"); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * time.Second)
		if got := kid(t, sign(t, here, keys.ES256)); got == leaked || bytes.Contains(here.JWKS().Body, []byte(leaked)) {
			t.Error("three seconds later the revoked key is still in use here")
		}

		// The schedule goes on by itself.
		keyAt := func() string { return kid(t, sign(t, here, keys.ES256)) }
		seen := map[string]bool{}
		for range 24 {
			seen[keyAt()] = true
			<-time.After(31 * time.Minute)
		}
		if len(seen) < 8 || len(here.List()) > 6 {
			t.Errorf("in half a day %d keys signed, and %d are kept", len(seen), len(here.List()))
		}
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestRunOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var log bytes.Buffer
		r := f.open(t, func(c *keys.Config) {
			c.Now = time.Now
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		fail := func(err error) {
			f.store.mu.Lock()
			f.store.err = err
			f.store.mu.Unlock()
			<-time.After(time.Minute)
			synctest.Wait()
		}
		fail(storage.ErrUnavailable)
		sign(t, r, keys.ES256)
		fail(nil)
		if n := strings.Count(log.String(), "can't be read"); n != 1 {
			t.Errorf("the trouble was logged %d times:\n%s", n, log.String())
		}
		if !strings.Contains(log.String(), "can be read again") {
			t.Error("the end of the trouble was not logged")
		}
	})
}
