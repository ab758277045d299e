package authz_test

import (
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
)

// BenchmarkBlockToRefusal measures from the return of a block, by a process of
// its own, to the refusal at the last of five APIs that follow the feed of three
// servers. Each of the APIs is asked all the while.
func BenchmarkBlockToRefusal(b *testing.B) {
	open := map[string]func(*testing.B) func() storage.Store{
		"SQLite": func(b *testing.B) func() storage.Store {
			path := filepath.Join(b.TempDir(), "solegate.db")
			return func() storage.Store {
				s, err := sqlite.Open(b.Context(), sqlite.Config{Path: path})
				if err != nil {
					b.Fatal(err)
				}
				return s
			}
		},
		"Redis": func(b *testing.B) func() storage.Store {
			url := "redis://" + redistest.Single(b).Addr
			return func() storage.Store {
				s, err := redis.Open(b.Context(), redis.Config{URL: url})
				if err != nil {
					b.Fatal(err)
				}
				return s
			}
		},
	}
	for _, name := range []string{"SQLite", "Redis"} {
		b.Run(name, func(b *testing.B) {
			open := open[name](b)
			var stores []storage.Store
			for range 4 {
				s := open()
				b.Cleanup(func() { s.Close() })
				stores = append(stores, s)
			}
			s, all := authztest.NewReplicas(b, stores[:3], []time.Duration{0, 0, 0})
			for _, r := range all {
				run(b, r)
			}
			operator := authztest.Operator(stores[3], s.Clock.Now)
			credential := registerAPI(s, "api", authztest.Audience)
			apis := make([]*verify.Verifier, 5)
			for i := range apis {
				var err error
				apis[i], err = verify.New(b.Context(), verify.Config{
					Issuer: s.URL, Audience: authztest.Audience, Development: true, Now: s.Clock.Now,
					Credential: &verify.Credential{ID: "api", Secret: credential.secret}, Feed: &verify.Feed{},
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			var took []time.Duration
			for b.Loop() {
				// Another session each time; a login is throttled, a refresh is not.
				token := s.SignIn(s.AddUser("person" + time.Now().Format("150405.000000000")).Name).AccessToken
				user, _ := authztest.Claims(b, token)["sub"].(string)
				for _, a := range apis {
					if _, err := a.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
				if err := operator.BlockUser(b.Context(), storage.UserID(user), "", time.Time{}); err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				var asking sync.WaitGroup
				for _, a := range apis {
					asking.Go(func() {
						for {
							if _, err := a.Verify(b.Context(), token); err != nil {
								return
							}
							runtime.Gosched()
						}
					})
				}
				asking.Wait()
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms/p99")
			b.ReportMetric(0, "ns/op")
		})
	}
}
