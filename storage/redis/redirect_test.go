package redis_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// TestServersDisagree: two primaries each send to the other, as they may while a
// cluster agrees on who has a slot. That is waited out; they are not asked as
// fast as they can answer.
func TestServersDisagree(t *testing.T) {
	servers := redistest.NewCluster(t)
	s := open(t, with(servers.URL(), "timeout=500ms"))
	n := slot(t, servers.Servers[0], "{u}")
	has, slot := servers.Owner(n), strconv.Itoa(n)
	other := servers.Servers[0]
	if other == has {
		other = servers.Servers[1]
	}
	do(t, has, "CLUSTER", "SETSLOT", slot, "NODE", do(t, other, "CLUSTER", "MYID"))
	do(t, has, "CONFIG", "RESETSTAT")
	do(t, other, "CONFIG", "RESETSTAT")
	began := time.Now()
	want(t, s.CreateGrant(t.Context(), grant("u.s.g")), storage.ErrUnavailable)
	if took := time.Since(began); took < 250*time.Millisecond || took > bound {
		t.Errorf("it gave up after %s", took)
	}
	sent := 0
	for _, x := range []*redistest.Server{has, other} {
		count, _, _ := strings.Cut(strings.TrimPrefix(info(t, x, "errorstat_MOVED"), "count="), ",")
		moved, _ := strconv.Atoi(count) // none, if it was not asked
		sent += moved
	}
	if sent < 3 || sent > 60 {
		t.Errorf("they were asked %d times in half a second", sent)
	}
	do(t, has, "CLUSTER", "SETSLOT", slot, "NODE", do(t, has, "CLUSTER", "MYID"))
	eventually(t, "it goes on", func() bool { return s.CreateGrant(t.Context(), grant("u.s.g")) == nil })
}
