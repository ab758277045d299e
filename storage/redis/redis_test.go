package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/storagetest"
)

var prefixes atomic.Int64

// with returns the URL with parameters.
func with(url string, parameters ...string) string {
	if strings.Contains(url, "?") {
		return url + "&" + strings.Join(parameters, "&")
	}
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

// far is a network that takes a moment each way, and never the same.
type far struct{ trips }

func (h *far) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		<-time.After(rand.N(2 * time.Millisecond))
		defer func() { <-time.After(rand.N(2 * time.Millisecond)) }()
		return next(ctx, cmds)
	}
}

// TestConformanceClusterSlow delays all that is sent to a cluster and comes
// back, so that what crosses slots is seen half done by others.
func TestConformanceClusterSlow(t *testing.T) {
	servers := redistest.NewCluster(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Opener {
		own := with(servers.URL(), "timeout=20s", fmt.Sprintf("prefix=t%d:", prefixes.Add(1)))
		return func() storage.Store {
			s := open(t, own)
			s.AddNodeHook(&far{})
			return s
		}
	})
}

func TestConformanceSentinel(t *testing.T) {
	storagetest.Run(t, fresh(redistest.NewSentinel(t).URL()))
}

func TestConformanceCluster(t *testing.T) {
	storagetest.Run(t, fresh(redistest.NewCluster(t).URL()))
}
