package audit

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
)

// BenchmarkAppend is three processes that append to one chain: by Write, with so
// many callers each who wait for their line, and by Record, as many lines as the
// queues take. The time is that of a line.
func BenchmarkAppend(b *testing.B) {
	const processes = 3
	for name, open := range map[string]func(*testing.B) func() storage.Store{
		"SQLite": func(b *testing.B) func() storage.Store {
			path := filepath.Join(b.TempDir(), "solegate.db")
			return func() storage.Store {
				s, err := sqlite.Open(b.Context(), sqlite.Config{Path: path})
				check(b, err)
				return s
			}
		},
		"Redis": func(b *testing.B) func() storage.Store {
			server := redistest.Single(b)
			return func() storage.Store {
				s, err := redis.Open(b.Context(), redis.Config{URL: "redis://" + server.Addr})
				check(b, err)
				return s
			}
		},
	} {
		begin := func(b *testing.B) ([]*Log, func()) {
			again := open(b)
			var logs []*Log
			var stores []storage.Store
			for range processes {
				s := again()
				stores = append(stores, s)
				logs = append(logs, New(Config{Store: s, Keep: 90 * 24 * time.Hour, Secret: secret}))
			}
			return logs, func() {
				for i, l := range logs {
					check(b, l.Close(b.Context()))
					defer stores[i].Close()
				}
				b.StopTimer()
				r, err := Verify(b.Context(), stores[0], Verification{Secret: secret, Now: time.Now()})
				check(b, err)
				if len(r.Problems) > 0 || r.Lines != uint64(b.N+processes) {
					b.Errorf("%d lines of %d: %q", r.Lines, b.N+processes, r.Problems)
				}
			}
		}
		e := Event{What: "user blocked", User: "k3v5n2q7w4x6y3z5abcdefghij", Client: "spa", Reason: "so many reports"}
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/Write%d", name, callers), func(b *testing.B) {
				logs, end := begin(b)
				var n atomic.Int64
				b.SetParallelism(callers * processes / 2) // of two processors
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					l := logs[n.Add(1)%processes]
					for pb.Next() {
						check(b, l.Write(b.Context(), e))
					}
				})
				end()
			})
		}
		b.Run(name+"/Record", func(b *testing.B) {
			logs, end := begin(b)
			b.ResetTimer()
			for n := range b.N {
				l := logs[n%processes]
				if n%(processes*2000) < processes && n >= processes {
					check(b, l.Write(b.Context(), e)) // else the queue is full
					continue
				}
				l.Record(b.Context(), e)
			}
			end()
		})
	}
}
