package main

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

func TestBucketsHoldWhatTheySay(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 65, 127, 128, 129, 1000, 12_345, time.Millisecond, 20 * time.Millisecond, time.Second, time.Hour, math.MaxInt64} {
		b := bucket(d)
		low := least(b)
		if d = max(d, 0); low > d {
			t.Errorf("%d is in a bucket that begins at %d", d, low)
		}
		if d < math.MaxInt64 {
			if high := least(b + 1); high <= d || high-low > max(1, d/64) {
				t.Errorf("%d is in a bucket from %d to %d", d, low, high)
			}
		}
		if b < 0 || b >= len(histogram{}.counts) {
			t.Errorf("%d has the bucket %d, outside of the histogram", d, b)
		}
	}
}

func TestQuantile(t *testing.T) {
	var h, other histogram
	for i := range 99 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	other.add(time.Second)
	h.merge(&other)
	near := func(q float64, want time.Duration) {
		t.Helper()
		if got := h.quantile(q); got < want || got > want+want/32 {
			t.Errorf("quantile %g is %s, %s expected", q, got, want)
		}
	}
	near(0, time.Microsecond)
	near(0.5, 51*time.Microsecond)
	near(0.98, 99*time.Microsecond)
	near(0.99, time.Second)
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
}

func TestLoadDoesAsManyOperationsAsItIsTold(t *testing.T) {
	var done [3]int
	wrong := errors.New("wrong")
	got := load(t.Context(), 3, limit{operations: 1000}, "", func(w *worker) error {
		done[w.number]++
		if done[w.number]%10 == 0 {
			return wrong
		}
		return nil
	})
	if sum := done[0] + done[1] + done[2]; sum != 1000 || got.operations+got.errors != 1000 {
		t.Errorf("%d operations were done, %d and %d errors counted; 1000 expected", sum, got.operations, got.errors)
	}
	if want := done[0]/10 + done[1]/10 + done[2]/10; got.errors != want || !errors.Is(got.first, wrong) {
		t.Errorf("%d errors, the first is %v; %d expected", got.errors, got.first, want)
	}
	if got.latency.total != got.operations {
		t.Errorf("%d latencies of %d operations", got.latency.total, got.operations)
	}
}

func TestLoadEndsWhenThereIsNothingLeft(t *testing.T) {
	left := 7
	got := load(t.Context(), 1, limit{operations: 1000}, "", func(*worker) error {
		if left == 0 {
			return errDry
		}
		left--
		return nil
	})
	if got.operations != 7 || got.errors != 0 {
		t.Errorf("%d operations and %d errors; 7 and 0 expected", got.operations, got.errors)
	}
}

func TestLoadEndsInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	got := load(ctx, 1, limit{duration: time.Hour}, "", func(*worker) error {
		cancel()
		return nil
	})
	if got.operations != 1 {
		t.Errorf("%d operations after the end; 1 expected", got.operations)
	}
}
