package redis_test

import (
	"strings"
	"testing"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// TestSecure: TLS, a client's certificate and passwords, wherever a Redis is and
// whoever says where, also after another server has taken over.
func TestSecure(t *testing.T) {
	t.Run("Sentinel", func(t *testing.T) {
		servers := redistest.NewSentinelTLS(t)
		old := servers.Primary()
		secure(t, servers.URL(), old, func() bool {
			p := servers.Primary()
			return p != old && info(t, p, "role") == "master"
		}, "sentinel_password_file", "sentinel_user", "password_file", "certificate", "ca")
	})
	t.Run("Cluster", func(t *testing.T) {
		servers := redistest.NewClusterTLS(t)
		at := slot(t, servers.Servers[0], "{u}")
		old := servers.Owner(at)
		secure(t, servers.URL(), old, func() bool { now := servers.Owner(at); return now != nil && now != old }, "password_file", "certificate", "ca")
	})
}

func secure(t *testing.T, url string, primary *redistest.Server, tookOver func() bool, needs ...string) {
	// Each of these is asked for: without it nobody gets in.
	for _, parameter := range needs {
		base, query, _ := strings.Cut(url, "?")
		var left []string
		for _, p := range strings.Split(query, "&") {
			if !strings.HasPrefix(p, parameter+"=") && (parameter != "certificate" || !strings.HasPrefix(p, "key=")) {
				left = append(left, p)
			}
		}
		s, err := redis.Open(t.Context(), redis.Config{URL: with(base, append(left, "timeout=500ms")...)})
		if err == nil {
			s.Close()
			t.Errorf("it opened without %s", parameter)
		}
	}
	s := open(t, url)
	family(t, s, "u.s.g")
	primary.Kill()
	eventually(t, "the replica takes over", tookOver)
	primary.Start()
	eventually(t, "it goes on", func() bool { return s.Ready(t.Context()) == nil })
	check(t, s.Rotate(t.Context(), rotation("u.s.g", 1)))
	want(t, s.Rotate(t.Context(), rotation("u.s.other", 1)), storage.ErrNotFound)
}
