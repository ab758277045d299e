package redistest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cluster is a Redis Cluster of three primaries with a replica each. A replica
// takes over two to four seconds after its primary was killed or paused.
type Cluster struct {
	// Servers are the three primaries and then their replicas, in the same
	// order, as it was in the beginning: after a failover, ask Owner.
	Servers []*Server

	tb  testing.TB
	tls *Credentials       // nil for plain TCP
	ids map[*Server]string // as the cluster names them
}

// slots is how many there are.
const slots = 16384

// NewCluster starts a cluster and returns when every server says that all is
// well and every replica follows. It takes three to four seconds, nearly all of
// them Redis's own caution, so let tests share one. Extra is configuration of
// every server, as for Single.
func NewCluster(tb testing.TB, extra ...string) *Cluster {
	tb.Helper()
	return newCluster(tb, nil, extra)
}

// NewClusterTLS is NewCluster, and each of them is as of NewTLS.
func NewClusterTLS(tb testing.TB) *Cluster {
	tb.Helper()
	c := newCredentials(tb)
	return newCluster(tb, c, []string{"--tls-cluster", "yes", "--masteruser", c.User, "--masterauth", c.Password})
}

func newCluster(tb testing.TB, credentials *Credentials, extra []string) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, tls: credentials, ids: map[*Server]string{}}
	var addrs []string // with the port of the bus
	for range 6 {
		bus := strconv.Itoa(reserve(tb))
		s := newServer(tb)
		s.configure(durable, []string{
			"--cluster-enabled", "yes",
			"--cluster-port", bus,
			"--cluster-node-timeout", "1500",
			"--cluster-replica-validity-factor", "0", // however long a test paused it
			"--cluster-allow-replica-migration", "no", // a primary that lost its slots stays one
		}, s.secure(credentials), extra)
		id := make([]byte, 20)
		rand.Read(id)
		c.Servers = append(c.Servers, s)
		c.ids[s] = hex.EncodeToString(id)
		addrs = append(addrs, s.Addr+"@"+bus)
	}
	// The servers read who they are from the file in which they would remember
	// it. To introduce them to each other by commands takes seconds more, and
	// epochs that collide.
	for _, self := range c.Servers {
		var b strings.Builder
		for i, s := range c.Servers {
			flags, primary, owns := "master", "-", fmt.Sprintf(" %d-%d", i*slots/3, (i+1)*slots/3-1)
			if i >= 3 {
				flags, primary, owns = "slave", c.ids[c.Servers[i-3]], ""
			}
			if s == self {
				flags = "myself," + flags
			}
			fmt.Fprintf(&b, "%s %s %s %s 0 0 %d connected%s\n", c.ids[s], addrs[i], flags, primary, i%3+1, owns)
		}
		b.WriteString("vars currentEpoch 3 lastVoteEpoch 0\n")
		self.write("nodes.conf", b.String())
	}
	c.Settle()
	return c
}

// Settle starts what was killed, resumes what was paused, and returns when
// every server says that all is well and every replica follows. Who is primary
// stays as it is.
func (c *Cluster) Settle() {
	c.tb.Helper()
	revive(c.Servers)
	for _, s := range c.Servers {
		Wait(c.tb, "the cluster of "+s.Addr, func() error {
			info, err := s.do(time.Second, "CLUSTER", "INFO")
			if err != nil {
				return err
			}
			if state := field(info, "cluster_state"); state != "ok" {
				return fmt.Errorf("%s says cluster_state:%s", s.Addr, state)
			}
			nodes, err := s.nodes()
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.link != "connected" || strings.Contains(n.flags, "fail") {
					return fmt.Errorf("%s says that %s is %s, %s", s.Addr, n.id, n.flags, n.link)
				}
			}
			return s.replicating()
		})
	}
}

// Owner returns the primary that serves a slot now. It waits while there is
// none, which is so until a failover is over.
func (c *Cluster) Owner(slot int) *Server {
	c.tb.Helper()
	var owner *Server
	Wait(c.tb, fmt.Sprintf("a primary for slot %d", slot), func() error {
		owner = nil
		newest := -1
		for _, s := range c.Servers {
			if !s.answering() {
				continue
			}
			nodes, err := s.nodes()
			if err != nil {
				continue
			}
			// A primary that comes back claims what it had until it is told
			// better; its epoch is the older one.
			for _, n := range nodes {
				if n.self && n.primary && n.serves(slot) && n.epoch > newest {
					owner, newest = s, n.epoch
				}
			}
		}
		if owner == nil {
			return errors.New("no server says that it serves it")
		}
		return nil
	})
	return owner
}

// Migrate moves a slot to another primary while clients go on. Half of its
// keys are moved, an odd one too, then between is called, then the rest is
// moved; it returns when every server knows the new owner. In between, the old
// owner serves the keys that it still has, answers ASK for those that it
// hasn't, and TRYAGAIN where a command names keys of both kinds.
//
// All servers must be running.
func (c *Cluster) Migrate(slot int, to *Server, between func()) {
	c.tb.Helper()
	from := c.Owner(slot)
	if from == to {
		c.tb.Fatalf("%s serves slot %d already", to.Addr, slot)
	}
	number := strconv.Itoa(slot)
	c.do(to, "CLUSTER", "SETSLOT", number, "IMPORTING", c.ids[from])
	c.do(from, "CLUSTER", "SETSLOT", number, "MIGRATING", c.ids[to])

	count, err := strconv.Atoi(c.do(from, "CLUSTER", "COUNTKEYSINSLOT", number))
	if err != nil {
		c.tb.Fatal(err)
	}
	c.move(from, to, number, (count+1)/2)
	between()
	for c.move(from, to, number, 100) {
	}

	// The new owner first: were it to fail after the old one had let go, the
	// slot would be nobody's.
	c.do(to, "CLUSTER", "SETSLOT", number, "NODE", c.ids[to])
	c.do(from, "CLUSTER", "SETSLOT", number, "NODE", c.ids[to])
	for _, s := range c.Servers {
		Wait(c.tb, fmt.Sprintf("%s to know the owner of slot %d", s.Addr, slot), func() error {
			nodes, err := s.nodes()
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.id == c.ids[to] && n.serves(slot) {
					return nil
				}
			}
			return errors.New("it names another one")
		})
	}
}

// move moves at most n keys of a slot and reports whether there were any.
func (c *Cluster) move(from, to *Server, slot string, n int) bool {
	c.tb.Helper()
	keys := c.do(from, "CLUSTER", "GETKEYSINSLOT", slot, strconv.Itoa(n))
	if keys == "" {
		return false
	}
	c.do(from, append([]string{"MIGRATE", "127.0.0.1", to.port, "", "0", "10000", "KEYS"}, strings.Split(keys, "\n")...)...)
	return true
}

func (c *Cluster) do(s *Server, args ...string) string {
	c.tb.Helper()
	answer, err := s.Do(args...)
	if err != nil {
		c.tb.Fatalf("%s: %s: %v", s.Addr, strings.Join(args, " "), err)
	}
	return answer
}

// node is a line of CLUSTER NODES: what one server thinks of another, or of
// itself.
type node struct {
	id, flags, link string
	self, primary   bool
	epoch           int
	ranges          []string // of slots
}

func (s *Server) nodes() ([]node, error) {
	answer, err := s.do(time.Second, "CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	var nodes []node
	for line := range strings.Lines(answer) {
		// id address flags primary ping pong epoch link slots...
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("CLUSTER NODES: %q", line)
		}
		flags := strings.Split(f[2], ",")
		epoch, err := strconv.Atoi(f[6])
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node{
			id: f[0], flags: f[2], link: f[7], epoch: epoch, ranges: f[8:],
			self: slices.Contains(flags, "myself"), primary: slices.Contains(flags, "master"),
		})
	}
	return nodes, nil
}

func (n node) serves(slot int) bool {
	return slices.ContainsFunc(n.ranges, func(r string) bool {
		first, last, ok := strings.Cut(r, "-")
		if !ok {
			last = first
		}
		from, err := strconv.Atoi(first) // fails for [slot->-id], a slot on its way
		to, err2 := strconv.Atoi(last)
		return err == nil && err2 == nil && from <= slot && slot <= to
	})
}

// URL is how a store finds the cluster.
func (c *Cluster) URL() string {
	if c.tls == nil {
		return "redis+cluster://" + addrs(c.Servers)
	}
	return "rediss+cluster://" + c.tls.User + "@" + addrs(c.Servers) + c.tls.query()
}

func addrs(servers []*Server) string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Addr
	}
	return strings.Join(list, ",")
}
