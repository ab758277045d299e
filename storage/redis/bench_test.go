package redis_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

func benchmark(b *testing.B) (*redis.Store, []storage.GrantID) {
	b.Helper()
	s := open(b, "redis://"+redistest.Single(b).Addr)
	check(b, s.CreateClient(b.Context(), clients.Client{ID: "spa"}))
	ids := make([]storage.GrantID, 64)
	for i := range ids {
		u := storage.UserID(fmt.Sprint("user", i))
		check(b, s.CreateUser(b.Context(), storage.User{ID: u, Name: string(u)}))
		x := storage.Session{ID: storage.SessionID(u) + ".s", User: u, AuthTime: start, CreatedAt: start, Expires: start.Add(time.Hour)}
		check(b, s.CreateSession(b.Context(), x))
		ids[i] = storage.GrantID(x.ID) + ".g"
		family(b, s, ids[i])
	}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	return s, ids
}

func BenchmarkStanding(b *testing.B) {
	s, ids := benchmark(b)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		id := ids[n.Add(1)%int64(len(ids))]
		for pb.Next() {
			if _, err := s.Standing(b.Context(), id, "spa"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkRotate(b *testing.B) {
	s, ids := benchmark(b)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		id := ids[n.Add(1)%int64(len(ids))]
		for from := uint64(1); pb.Next(); from++ {
			if err := s.Rotate(b.Context(), rotation(id, from)); err != nil {
				b.Error(err)
			}
		}
	})
}
