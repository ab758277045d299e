package redis_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// newer is a server in front of one that does not know WAITAOF, and answers
// that in its place.
type newer struct {
	*redistest.Proxy

	mu     sync.Mutex
	asked  []string // with which arguments
	answer string
	takes  time.Duration
}

var unknownCommand = regexp.MustCompile(`(?i)^-ERR unknown command '(?:WAITAOF)', with args beginning with: (.*?) *\r\n$`)

func newNewer(t *testing.T, server *redistest.Server) *newer {
	n := &newer{Proxy: redistest.NewProxy(t, server.Addr), answer: "*2\r\n:1\r\n:0\r\n"}
	n.Edit(func(b []byte) []byte {
		m := unknownCommand.FindSubmatch(b)
		if m == nil {
			return b
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.asked = append(n.asked, string(m[1]))
		<-time.After(n.takes)
		return []byte(n.answer)
	})
	return n
}

func (n *newer) answers(answer string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
}

// since returns what was asked since the last time.
func (n *newer) since() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := n.asked
	n.asked = nil
	return asked
}

// TestEndsAreOnDisk: with fsync, the end of anything is acknowledged when it is
// on disk; a refresh does not wait for that.
func TestEndsAreOnDisk(t *testing.T) {
	server := redistest.Single(t, "--appendfsync", "always")
	n := newNewer(t, server)
	s := open(t, with("redis://"+n.Addr, "fsync=2s"))
	ctx := t.Context()
	client := func() clients.Client { c, err := s.Client(ctx, "spa"); check(t, err); return c }
	user := func() storage.User { u, err := s.User(ctx, "u"); check(t, err); return u }
	api := func() clients.ResourceServer { rs, err := s.ResourceServer(ctx, "api"); check(t, err); return rs }
	n.since()
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"CreateUser", func() error { return s.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}) }},
		{"CreateClient", func() error { return s.CreateClient(ctx, clients.Client{ID: "spa"}) }},
		{"CreateResourceServer", func() error { return s.CreateResourceServer(ctx, clients.ResourceServer{ID: "api"}) }},
		{"CreateSession", func() error {
			return s.CreateSession(ctx, storage.Session{ID: "u.s", User: "u", CreatedAt: start, Expires: start.Add(time.Hour)})
		}},
		{"CreateGrant", func() error { return s.CreateGrant(ctx, grant("u.s.g")) }},
		{"Redeem", func() error { return s.Redeem(ctx, redemption("u.s.g")) }},
		{"Rotate", func() error { return s.Rotate(ctx, rotation("u.s.g", 1)) }},
		{"Standing", func() error { _, err := s.Standing(ctx, "u.s.g", "spa"); return err }},
		{"Ready", func() error { return s.Ready(ctx) }},
	} {
		check(t, op.do())
		if asked := n.since(); asked != nil {
			t.Errorf("%s waited for the disk: %q", op.name, asked)
		}
	}
	check(t, s.PutKeyRing(ctx, storage.KeyRing{}))
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"RevokeGrant", func() error { return s.RevokeGrant(ctx, "u.s.g", start, "test") }},
		{"EndSession", func() error { return s.EndSession(ctx, "u.s", start) }},
		{"UpdateUser", func() error { return s.UpdateUser(ctx, user()) }},
		{"UpdateClient", func() error { return s.UpdateClient(ctx, client()) }},
		{"UpdateResourceServer", func() error { return s.UpdateResourceServer(ctx, api()) }},
		{"PutKeyRing", func() error {
			r, err := s.KeyRing(ctx)
			check(t, err)
			return s.PutKeyRing(ctx, r)
		}},
		{"RemoveClient", func() error { return s.RemoveClient(ctx, "spa") }},
		{"RemoveResourceServer", func() error { return s.RemoveResourceServer(ctx, "api") }},
		{"RemoveUser", func() error { return s.RemoveUser(ctx, "u") }},
	} {
		n.since()
		check(t, op.do())
		if asked := n.since(); len(asked) != 1 || asked[0] != "'1' '0' '2000'" {
			t.Errorf("%s asked for %q", op.name, asked)
		}
	}
	revoke := func(s storage.Store) error { return s.RevokeGrant(ctx, "u.s.g", start, "test") }
	for _, answer := range []string{"*2\r\n:0\r\n:0\r\n", "*2\r\n:0\r\n:1\r\n", "*1\r\n:1\r\n", ":1\r\n", "+OK\r\n", "-ERR WAITAOF cannot be used with replica instances\r\n"} {
		n.answers(answer)
		if err := revoke(s); !errors.Is(err, storage.ErrUnknown) {
			t.Errorf("the disk answered %q: got %v, want %v", answer, err, storage.ErrUnknown)
		}
	}
	check(t, s.CreateGrant(ctx, grant("u.s.other"))) // nobody waits behind that

	n.answers("*2\r\n:1\r\n:2\r\n")
	three := open(t, with("redis://"+n.Addr, "fsync=2s", "replicas=2"))
	n.since()
	check(t, revoke(three))
	if asked := n.since(); len(asked) != 1 || asked[0] != "'1' '2' '2000'" {
		t.Errorf("with two replicas it asked for %q", asked)
	}
	n.answers("*2\r\n:1\r\n:1\r\n")
	want(t, revoke(three), storage.ErrUnknown)
	n.answers("*2\r\n:0\r\n:2\r\n")
	want(t, revoke(three), storage.ErrUnknown)
}

// TestDiskTakesLonger: the disk has a time limit of its own, on top of the other.
func TestDiskTakesLonger(t *testing.T) {
	n := newNewer(t, redistest.Single(t, "--appendfsync", "always"))
	s := open(t, with("redis://"+n.Addr, "fsync=5s", "timeout=300ms"))
	ctx := t.Context()
	check(t, s.CreateUser(ctx, storage.User{ID: "u", Name: "alice"}))
	check(t, s.CreateGrant(ctx, grant("u.s.g")))
	u, err := s.User(ctx, "u")
	check(t, err)
	u.Name = "bob" // several trips
	n.takes = 500 * time.Millisecond
	check(t, s.UpdateUser(ctx, u))
	check(t, s.RevokeGrant(ctx, "u.s.g", start, "test"))
	check(t, s.RemoveUser(ctx, "u"))
}

// TestDiskInspected: who asks for the disk is not told that a thing is on it
// by a server that can't know.
func TestDiskInspected(t *testing.T) {
	everysec, always, never := redistest.Single(t), redistest.Single(t, "--appendfsync", "always"), redistest.Single(t, "--appendfsync", "no")
	for _, c := range []struct {
		name, addr string
		says       string
	}{
		{"too old", always.Addr, "Redis 7.2"},
		{"never syncs", newNewer(t, never).Addr, "appendfsync is no"},
		{"says so too soon", newNewer(t, everysec).Addr, "too soon"},
		{"always", newNewer(t, always).Addr, ""},
		{"everysec", func() string { n := newNewer(t, everysec); n.takes = 700 * time.Millisecond; return n.Addr }(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := redis.Open(t.Context(), redis.Config{URL: with("redis://"+c.addr, "fsync=3s")})
			if err == nil {
				s.Close()
			}
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%q expected in: %v", c.says, err)
			}
		})
	}
}

// TestWarnings: what would lose something, and yet may be wanted, is said.
func TestWarnings(t *testing.T) {
	everysec, always := redistest.Single(t), redistest.Single(t, "--appendfsync", "always")
	pair := redistest.NewSentinel(t)
	honest := newNewer(t, everysec)
	honest.takes = 700 * time.Millisecond
	const disk, few = "appendfsync is not always", "too few replicas"
	for _, c := range []struct {
		name, url string
		says      []string
	}{
		{"everysec alone", "redis://" + everysec.Addr, []string{disk}},
		{"everysec, and fsync", with("redis://"+honest.Addr, "fsync=3s"), nil},
		{"always", "redis://" + always.Addr, nil},
		{"a replica is waited for", pair.URL(), nil},
		{"nothing is waited for", with(pair.URL(), "replicas=0"), []string{disk}},
		{"one replica of two", with(pair.URL(), "replicas=2"), []string{few}},
		{"no replica", with("redis://"+always.Addr, "replicas=1"), []string{few}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			s, err := redis.Open(t.Context(), redis.Config{URL: c.url, Log: slog.New(slog.NewTextHandler(&log, nil))})
			check(t, err)
			s.Close()
			for _, warning := range []string{disk, few} {
				expected := strings.Contains(strings.Join(c.says, " "), warning)
				if strings.Contains(log.String(), warning) != expected {
					t.Errorf("%q expected: %t; it says %s", warning, expected, &log)
				}
			}
		})
	}
}
