package redistest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Sentinel is a primary with a replica, watched by three sentinels of which two
// must agree. The replica takes over two seconds or so after the primary was
// killed or paused. An old primary that is started again takes writes for a
// second, until a sentinel makes it a replica, and then forgets them.
type Sentinel struct {
	// Name is what the sentinels call the primary.
	Name string
	// Sentinels are the three that watch.
	Sentinels []*Server
	// Servers are the first primary and its replica: after a failover, ask
	// Primary.
	Servers []*Server

	tb  testing.TB
	tls *Credentials // nil for plain TCP
}

// NewSentinel starts them all and returns when the sentinels know the replica
// and each other, so that a failover can happen. Extra is configuration of the
// primary and the replica, as for Single.
func NewSentinel(tb testing.TB, extra ...string) *Sentinel {
	tb.Helper()
	return newSentinel(tb, nil, extra)
}

// NewSentinelTLS is NewSentinel, and each of them, the Sentinels too, is as of
// NewTLS.
func NewSentinelTLS(tb testing.TB) *Sentinel {
	tb.Helper()
	c := newCredentials(tb)
	return newSentinel(tb, c, []string{"--masteruser", c.User, "--masterauth", c.Password})
}

func newSentinel(tb testing.TB, credentials *Credentials, extra []string) *Sentinel {
	tb.Helper()
	s := &Sentinel{Name: "solegate", tb: tb, tls: credentials}
	primary, replica := newServer(tb), newServer(tb)
	primary.configure(durable, primary.secure(credentials), extra)
	replica.configure(durable, replica.secure(credentials), []string{"--replicaof", "127.0.0.1", primary.port}, extra)
	s.Servers = []*Server{primary, replica}
	revive(s.Servers)
	for range 3 {
		sentinel := newServer(tb)
		var of []string
		if c := credentials; c != nil {
			of = []string{
				"--sentinel", "auth-user", s.Name, c.User, "--sentinel", "auth-pass", s.Name, c.Password,
				"--sentinel", "sentinel-user", c.User, "--sentinel", "sentinel-pass", c.Password,
			}
		}
		sentinel.configure(sentinel.secure(credentials), []string{
			"--sentinel", "monitor", s.Name, "127.0.0.1", primary.port, "2",
			"--sentinel", "down-after-milliseconds", s.Name, "1000",
			"--sentinel", "failover-timeout", s.Name, "5000",
		}, of)
		sentinel.args = append(sentinel.args, "--sentinel")
		// They look around every ten seconds otherwise. Tilt is what a
		// sentinel does that had no processor for two seconds: nothing, for
		// thirty seconds. On a busy machine a test would wait for that.
		sentinel.setup = [][]string{{"SENTINEL", "DEBUG",
			"info-period", "200", "publish-period", "200", "ping-period", "200",
			"tilt-trigger", "60000", "tilt-period", "1000"}}
		s.Sentinels = append(s.Sentinels, sentinel)
	}
	s.Settle()
	return s
}

// Primary returns the server that the running sentinels say is the primary. It
// waits while they don't agree; before they have noticed that the primary is
// gone, they agree on that one.
func (s *Sentinel) Primary() *Server {
	s.tb.Helper()
	var primary *Server
	Wait(s.tb, "the sentinels to agree on a primary", func() error {
		addr := ""
		for _, sentinel := range s.Sentinels {
			if !sentinel.answering() {
				continue
			}
			answer, err := sentinel.do(time.Second, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
			if err != nil {
				return err
			}
			host, port, _ := strings.Cut(answer, "\n")
			said := net.JoinHostPort(host, port)
			if addr != "" && said != addr {
				return fmt.Errorf("one says %s, another %s", addr, said)
			}
			addr = said
		}
		for _, server := range s.Servers {
			if server.Addr == addr {
				primary = server
				return nil
			}
		}
		return fmt.Errorf("they say %q", addr)
	})
	return primary
}

// Settle starts what was killed, resumes what was paused, and returns when the
// sentinels have made one server the primary, the other one follows it, and
// they would notice if it failed.
func (s *Sentinel) Settle() {
	s.tb.Helper()
	revive(s.Servers)
	revive(s.Sentinels)
	for _, sentinel := range s.Sentinels {
		Wait(s.tb, "the sentinel at "+sentinel.Addr, func() error { return s.watching(sentinel) })
	}
	Wait(s.tb, "the replica to follow", func() error {
		primary := s.Primary()
		for _, server := range s.Servers {
			info, err := server.do(time.Second, "INFO", "replication")
			if err != nil {
				return err
			}
			if (field(info, "role") == "master") != (server == primary) {
				return fmt.Errorf("%s is a %s", server.Addr, field(info, "role"))
			}
			if err := server.replicating(); err != nil {
				return err
			}
		}
		return nil
	})
}

// watching fails until a sentinel sees the primary, the replica and the other
// two, all of them well.
func (s *Sentinel) watching(sentinel *Server) error {
	for _, q := range []struct {
		of, flags string
		count     int
	}{{"MASTERS", "master", 1}, {"REPLICAS", "slave", 1}, {"SENTINELS", "sentinel", 2}} {
		args := []string{"SENTINEL", q.of}
		if q.of != "MASTERS" {
			args = append(args, s.Name)
		}
		answer, err := sentinel.do(time.Second, args...)
		if err != nil {
			return err
		}
		well := 0
		lines := strings.Split(answer, "\n") // names and values take turns
		for i := 1; i < len(lines); i += 2 {
			switch name, value := lines[i-1], lines[i]; {
			case name == "flags" && value != q.flags:
				return fmt.Errorf("it sees %s", value) // s_down, disconnected
			case name == "flags":
				well++
			case name == "master-link-status" && value != "ok":
				return errors.New("it sees a replica that does not follow")
			}
		}
		if well != q.count {
			return fmt.Errorf("it sees %d of %d: %s", well, q.count, q.of)
		}
	}
	return nil
}

// URL is how a store finds the primary.
func (s *Sentinel) URL() string {
	at := addrs(s.Sentinels) + "/" + s.Name
	if s.tls == nil {
		return "redis+sentinel://" + at
	}
	return "rediss+sentinel://" + s.tls.User + "@" + at + s.tls.query() + "&sentinel_user=" + s.tls.User + "&sentinel_password_file=" + s.tls.PasswordFile
}
