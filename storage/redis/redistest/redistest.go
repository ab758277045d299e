// Package redistest starts real Redis servers for tests: one, some under
// Sentinel, a cluster, one that asks for TLS and a password. They listen on
// loopback, keep their data in the test's folder, and end with the test.
//
// It needs the program redis-server; Debian's package of that name has it.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

var quiet sync.Once

// Server is one process.
type Server struct {
	Addr string
	Dir  string

	tb      testing.TB
	args    []string
	options redis.Options // how the harness itself speaks to it

	mu  sync.Mutex
	cmd *exec.Cmd
}

// Single starts a server that keeps an append-only file and evicts nothing.
// More arguments are of redis-server's configuration, and win.
func Single(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := prepare(tb, append([]string{"--appendonly", "yes", "--maxmemory-policy", "noeviction"}, args...)...)
	s.Start()
	return s
}

// prepare makes a server that does not run yet.
func prepare(tb testing.TB, args ...string) *Server {
	tb.Helper()
	quiet.Do(logging.Disable)
	addr := freeAddr(tb)
	_, port, _ := net.SplitHostPort(addr)
	s := &Server{Addr: addr, Dir: tb.TempDir(), tb: tb}
	s.options.Addr = addr
	s.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--logfile", filepath.Join(s.Dir, "redis.log"),
		"--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"}, args...)
	tb.Cleanup(s.Kill)
	return s
}

var taken sync.Map // ports that were given out: nobody listens on them yet

func freeAddr(tb testing.TB) string {
	tb.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		if _, used := taken.LoadOrStore(addr, true); !used {
			return addr
		}
	}
}

// Start starts the server, for the first time or again on the same data, and
// waits until it answers.
func (s *Server) Start() {
	s.tb.Helper()
	s.launch()
	s.await()
}

func (s *Server) launch() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.tb.Fatalf("the server at %s runs already", s.Addr)
	}
	cmd := exec.Command("redis-server", s.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("these tests need real servers, and redis-server does not start (%v): on Debian, apt-get install redis-server", err)
	}
	s.cmd = cmd
}

func (s *Server) await() {
	s.tb.Helper()
	s.eventually("the server at "+s.Addr+" answers", func() bool {
		_, err := s.Do("PING")
		return err == nil || redis.IsAuthError(err)
	})
}

// Kill ends the server as a crash would, and waits until it is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGKILL)
	s.cmd.Wait()
	s.cmd = nil
}

// Pause stops the server without ending it: connections stay, nothing is
// answered. Resume lets it go on.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.cmd.Process.Signal(sig)
	}
}

// Do sends one command and returns the answer as text.
func (s *Server) Do(args ...any) (string, error) {
	o := s.options
	o.MaxRetries, o.DialTimeout, o.ReadTimeout = -1, time.Second, 10*time.Second
	o.DialerRetries, o.DisableIdentity = 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(&o)
	defer c.Close()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		return "", err
	}
	return fmt.Sprint(v), nil
}

// MustDo is Do, and the test fails if it does.
func (s *Server) MustDo(args ...any) string {
	s.tb.Helper()
	v, err := s.Do(args...)
	if err != nil {
		s.tb.Fatalf("%v at %s: %v", args[0], s.Addr, err)
	}
	return v
}

// Info returns one line of INFO.
func (s *Server) Info(name string) string {
	text, _ := s.Do("INFO")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

func (s *Server) eventually(what string, done func() bool) {
	s.tb.Helper()
	Eventually(s.tb, what, done)
}

// Eventually waits until something is so, and fails the test if that takes
// too long.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-deadline:
			tb.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// Sentinel is a primary and its replica, watched by three Sentinels.
type Sentinel struct {
	Name      string
	Sentinels []*Server
	Servers   []*Server

	tb testing.TB
}

// NewSentinel starts them all.
func NewSentinel(tb testing.TB) *Sentinel {
	tb.Helper()
	s := &Sentinel{Name: "solegate", tb: tb}
	primary := Single(tb)
	host, port, _ := net.SplitHostPort(primary.Addr)
	replica := Single(tb, "--replicaof", host+" "+port)
	s.Servers = []*Server{primary, replica}
	replica.eventually("the replica follows", func() bool { return replica.Info("master_link_status") == "up" })
	for range 3 {
		// A Sentinel writes to its file, so it needs one.
		x := prepare(tb)
		file := filepath.Join(x.Dir, "sentinel.conf")
		x.args = append([]string{file, "--sentinel"}, "--port", x.args[1], "--bind", "127.0.0.1", "--dir", x.Dir, "--logfile", filepath.Join(x.Dir, "sentinel.log"))
		write(tb, file, fmt.Sprintf("sentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 3000\n", s.Name, host, port, s.Name, s.Name))
		x.Start()
		s.Sentinels = append(s.Sentinels, x)
	}
	primary.eventually("the Sentinels know each other and the replica", func() bool {
		for _, x := range s.Sentinels {
			text, err := x.Do("INFO", "sentinel")
			if err != nil || !strings.Contains(text, "status=ok") || !strings.Contains(text, "slaves=1,sentinels=3") {
				return false
			}
		}
		return true
	})
	return s
}

// Primary returns the server that the Sentinels say is the primary.
func (s *Sentinel) Primary() *Server {
	for _, x := range s.Sentinels {
		text, err := x.Do("SENTINEL", "get-master-addr-by-name", s.Name)
		if err != nil {
			continue
		}
		if f := strings.Fields(strings.Trim(text, "[]")); len(f) == 2 {
			for _, server := range s.Servers {
				if server.Addr == net.JoinHostPort(f[0], f[1]) {
					return server
				}
			}
		}
	}
	s.tb.Fatal("no Sentinel knows a primary")
	return nil
}

// URL is how a store finds them.
func (s *Sentinel) URL() string {
	return "redis+sentinel://" + addrs(s.Sentinels) + "/" + s.Name
}

// Cluster is three primaries with a replica each. To start one takes seconds:
// tests may share it if each has a prefix of its own.
type Cluster struct {
	Servers []*Server // the first three begin as primaries

	tb testing.TB
}

// NewCluster starts it and waits until it serves.
func NewCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	var bus []string
	for range 6 {
		_, port, _ := net.SplitHostPort(freeAddr(tb))
		bus = append(bus, port)
		s := prepare(tb, "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "1500", "--cluster-port", port, "--cluster-replica-validity-factor", "0")
		s.launch()
		c.Servers = append(c.Servers, s)
	}
	for _, s := range c.Servers {
		s.await()
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		c.Servers[i].MustDo("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		c.Servers[i].MustDo("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for i, s := range c.Servers[1:] {
		host, port, _ := net.SplitHostPort(s.Addr)
		c.Servers[0].MustDo("CLUSTER", "MEET", host, port, bus[i+1])
	}
	everywhere := func(what string, holds func(*Server) bool) {
		tb.Helper()
		Eventually(tb, what, func() bool {
			for _, s := range c.Servers {
				if !holds(s) {
					return false
				}
			}
			return true
		})
	}
	everywhere("the nodes know each other", func(s *Server) bool {
		text, _ := s.Do("CLUSTER", "INFO")
		return strings.Contains(text, "cluster_known_nodes:6") && !strings.Contains(s.MustDo("CLUSTER", "NODES"), "handshake")
	})
	for i, s := range c.Servers[3:] {
		s.MustDo("CLUSTER", "REPLICATE", c.Servers[i].MustDo("CLUSTER", "MYID"))
	}
	everywhere("the cluster serves", func(s *Server) bool {
		text, _ := s.Do("CLUSTER", "INFO")
		return strings.Contains(text, "cluster_state:ok") && (s.Info("role") == "master" && s.Info("connected_slaves") == "1" || s.Info("master_link_status") == "up")
	})
	everywhere("everybody knows the replicas", func(s *Server) bool {
		return strings.Count(s.MustDo("CLUSTER", "NODES"), "slave") == 3
	})
	return c
}

// URL is how a store finds it.
func (c *Cluster) URL() string { return "redis+cluster://" + addrs(c.Servers) }

func addrs(servers []*Server) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr)
	}
	return strings.Join(list, ",")
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	for _, s := range c.Servers {
		if text, err := s.Do("CLUSTER", "KEYSLOT", key); err == nil {
			n, _ := strconv.Atoi(text)
			return n
		}
	}
	c.tb.Fatal("no node answers")
	return 0
}

// Owner returns the primary that serves a slot now, nil if nobody does.
func (c *Cluster) Owner(slot int) *Server {
	for _, s := range c.Servers {
		text, err := s.Do("CLUSTER", "NODES")
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 9 || !strings.Contains(f[2], "master") || strings.Contains(f[2], "fail") || !holds(f[8:], slot) {
				continue
			}
			addr, _, _ := strings.Cut(f[1], "@")
			for _, owner := range c.Servers {
				if owner.Addr == addr {
					return owner
				}
			}
		}
	}
	return nil
}

func holds(ranges []string, slot int) bool {
	for _, r := range ranges {
		first, last, ok := strings.Cut(r, "-")
		if !ok {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && a <= slot && slot <= b {
			return true
		}
	}
	return false
}

// Migrate moves a slot to another primary, key by key. Between is called when
// half of the keys have moved.
func (c *Cluster) Migrate(slot int, to *Server, between func()) {
	c.tb.Helper()
	from := c.Owner(slot)
	fromID, toID := from.MustDo("CLUSTER", "MYID"), to.MustDo("CLUSTER", "MYID")
	to.MustDo("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.MustDo("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := net.SplitHostPort(to.Addr)
	move := func(n int) {
		keys := strings.Fields(strings.Trim(from.MustDo("CLUSTER", "GETKEYSINSLOT", slot, n), "[]"))
		for _, key := range keys {
			from.MustDo("MIGRATE", host, port, key, 0, 5000)
		}
	}
	n, _ := strconv.Atoi(from.MustDo("CLUSTER", "COUNTKEYSINSLOT", slot))
	move((n + 1) / 2)
	between()
	move(1 << 20)
	to.MustDo("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.MustDo("CLUSTER", "SETSLOT", slot, "NODE", toID)
}
