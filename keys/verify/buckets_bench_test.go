//go:build unix

package verify

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The limiter's share of a request: at most 200 ns on one core with a million
// known accounts, and no allocation.
func BenchmarkLimitMillionAccounts(b *testing.B) {
	const accounts = 1_000_000
	v := &Verifier{limits: newLimits(&Config{Limits: Limits{Accounts: accounts}, Now: time.Now}, false)}
	subjects := make([]string, accounts)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("user-%020d", i)
	}
	// Their order is no help: buckets are where the hash says.
	x, t := v.limits.add(Limit{Name: "orders", Requests: 600, Window: time.Hour, Burst: 600}), Token{ClientID: "spa"}
	for _, t.Subject = range subjects {
		v.limits.take(x, &t, v.limits.clock())
	}
	if s := v.limits.stats(); s.Buckets != accounts {
		b.Fatalf("%+v", s)
	}
	// The time is that of the request, which Require has asked for. Each waits for
	// the one before, as requests do: side by side their waiting for memory would
	// overlap.
	b.Run("take", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		now, i := v.limits.clock(), 0
		for b.Loop() {
			t.Subject = subjects[i%accounts]
			backlog, _ := v.limits.take(x, &t, now)
			i += 1 + int(uint64(backlog)>>63)
		}
	})
	b.Run("clock", func(b *testing.B) { // what it would cost to ask again
		defer reportCPU(b)()
		for b.Loop() {
			v.limits.clock()
		}
	})
	b.Run("take-parallel", func(b *testing.B) {
		b.ReportAllocs()
		var at atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			t := t
			for i := int(at.Add(accounts / 7)); pb.Next(); i++ {
				t.Subject = subjects[i%accounts]
				v.limits.take(x, &t, v.limits.clock())
			}
		})
	})
	b.Run("middleware", func(b *testing.B) {
		h := v.Limit(x.Limit)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r := httptest.NewRequest("GET", "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, passed{token: &t, at: time.Now()}))
		w := &discard{http.Header{"Content-Type": {"text/plain"}}}
		b.ReportAllocs()
		defer reportCPU(b)()
		for i := 0; b.Loop(); i++ {
			t.Subject = subjects[i%accounts]
			delete(w.h, "Ratelimit")
			delete(w.h, "Ratelimit-Policy")
			h.ServeHTTP(w, r)
		}
	})
}

// reportCPU reports the processor time that one turn takes: what else the
// machine does is not in it.
func reportCPU(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// What a flood of identities costs, in time and memory: all of them in a table
// for a million accounts, whose buckets never get full again.
func BenchmarkLimitFlood(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table, c, r := newBuckets(1_000_000), &crowd{}, rate{1 << 61, 1 << 61}
	const flood = 5_000_000
	began := time.Now()
	for range b.N {
		for i := range flood {
			table.take(maphash.Comparable(modelSeed, i), int64(time.Since(began)), r, c)
		}
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N*flood), "ns/identity")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	b.ReportMetric(float64(table.stats().Buckets), "buckets")
	runtime.KeepAlive(table)
}
