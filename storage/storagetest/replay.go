package storagetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

// testOnce: of any number of callers one gets nil, until the time is up.
func testOnce(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	until := start.Add(time.Minute)
	for key := range byte(4) {
		var first, exists atomic.Int64
		var together sync.WaitGroup
		for i := range racers {
			together.Go(func() {
				switch err := []storage.Store{s, other}[i%2].Once(ctx, [32]byte{key, '}', 0xff}, start, until); {
				case err == nil:
					first.Add(1)
				case errors.Is(err, storage.ErrExists):
					exists.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		together.Wait()
		if first.Load() != 1 || exists.Load() != racers-1 {
			t.Fatalf("%d of %d were the first, and %d were not", first.Load(), racers, exists.Load())
		}
	}
	// Nobody is the first again before the time is up: not by another life,
	// and not after a sweep, however often.
	just := until.Add(-time.Nanosecond)
	for _, at := range []time.Time{start.Add(-time.Second), start, just} {
		if _, err := s.Sweep(ctx, at, 100); err != nil {
			t.Error(err)
		}
		want(t, s.Once(ctx, [32]byte{0, '}', 0xff}, at, start.Add(time.Hour)), storage.ErrExists)
		want(t, s.Once(ctx, [32]byte{0, '}', 0xff}, at, at), storage.ErrExists)
	}
	// Afterwards it may be forgotten, and need not be.
	_, err := s.Sweep(ctx, until, 100)
	check(t, err)
	if err := s.Once(ctx, [32]byte{0, '}', 0xff}, until, until.Add(time.Minute)); err != nil && !errors.Is(err, storage.ErrExists) {
		t.Errorf("after its time: %v", err)
	}
	want(t, s.Once(ctx, [32]byte{0, '}', 0xff}, until, until.Add(time.Minute)), storage.ErrExists)
	// A time that is up already is no error: the callers' clocks differ.
	check(t, s.Once(ctx, [32]byte{9}, start, start.Add(-time.Second)))
}
