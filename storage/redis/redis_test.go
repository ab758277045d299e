package redis_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/storagetest"
)

var prefixes atomic.Int64

// with returns the URL with parameters.
func with(url string, parameters ...string) string {
	return url + "?" + strings.Join(parameters, "&")
}

// fresh gives every test data of its own on the same servers.
func fresh(url string, parameters ...string) func(*testing.T) storagetest.Opener {
	return func(t *testing.T) storagetest.Opener {
		own := with(url, append(parameters, fmt.Sprintf("prefix=t%d:", prefixes.Add(1)))...)
		return func() storage.Store { return open(t, own) }
	}
}

func open(t testing.TB, url string) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	server := redistest.Single(t)
	storagetest.Run(t, fresh("redis://"+server.Addr))
}

// TestConformanceSlow delays every request and every answer, so that the
// commands of several callers mix in every way.
func TestConformanceSlow(t *testing.T) {
	proxy := redistest.NewProxy(t, redistest.Single(t).Addr)
	proxy.SetLatency(time.Millisecond)
	storagetest.Run(t, fresh("redis://"+proxy.Addr, "timeout=20s"))
}

func TestConformanceSentinel(t *testing.T) {
	storagetest.Run(t, fresh(redistest.NewSentinel(t).URL()))
}

func TestConformanceCluster(t *testing.T) {
	storagetest.Run(t, fresh(redistest.NewCluster(t).URL()))
}
