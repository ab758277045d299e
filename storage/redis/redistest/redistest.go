// Package redistest runs real Redis servers for tests, on loopback, from the
// redis-server that is installed:
//
//	s := redistest.Single(t)
//	s.Do("SET", "key", "value")
//	s.Kill()
//	s.Start() // the same port, the same data
//
// [Single] is one server, and enough for most tests. [NewSentinel] and
// [NewCluster] are what fails over; [NewProxy] is a bad network in front of one
// server; [NewTLS], [NewSentinelTLS] and [NewClusterTLS] ask for a certificate
// and a password. Where redis-server is missing, the test fails: what isn't
// tested must not look tested.
//
// Servers live as long as the test they were made with, and die with its
// process. Tests share one by being subtests of one test, each with keys of its
// own, or after FLUSHALL; Settle repairs what the last one broke.
//
// What waits, waits a minute at most and then fails the test that made the
// server, so call such methods from a test's own goroutine.
package redistest

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is for two busy cores and the race detector, not for Redis.
	patience = time.Minute
	tick     = 10 * time.Millisecond
)

// Server is one process of Redis. Its methods may be called from several
// goroutines.
type Server struct {
	// Addr is where it listens: 127.0.0.1 and a port that stays its own.
	Addr string
	// Dir holds its data, its configuration (redis.conf) and log (redis.log).
	Dir string

	tb    testing.TB
	port  string
	args  []string    // of the command line
	setup [][]string  // commands that no configuration file can hold
	tls   *tls.Config // nil for plain TCP
	auth  []string    // arguments of AUTH, nil for none

	mu     sync.Mutex // guards what follows
	pid    int
	dead   chan struct{} // closed when the process has ended; nil before the first
	paused bool
}

// durable is how a server of data is set up, as Solegate asks for it: it
// writes to disk within a second, and rather refuses a write than forget
// something.
var durable = []string{
	"--save", "",
	"--appendonly", "yes",
	"--appendfsync", "everysec",
	"--maxmemory-policy", "noeviction",
	"--repl-diskless-sync", "yes",
	"--repl-diskless-sync-delay", "0",
	"--repl-ping-replica-period", "1",
}

// Single starts one server: appendonly yes, appendfsync everysec,
// maxmemory-policy noeviction. Extra is configuration as on Redis's command
// line, which overrides: "--maxmemory", "3mb".
//
// With everysec, what was answered is nearly always in the file already when
// Kill comes, but Redis doesn't promise it: while the disk is slow, the write
// is put off. A test that counts on it wants "--appendfsync", "always".
func Single(tb testing.TB, extra ...string) *Server {
	tb.Helper()
	s := newServer(tb)
	s.configure(durable, extra)
	s.Start()
	return s
}

// newServer gives a server its port and its folder. It starts nothing.
func newServer(tb testing.TB) *Server {
	tb.Helper()
	port := strconv.Itoa(reserve(tb))
	s := &Server{
		Addr: net.JoinHostPort("127.0.0.1", port),
		Dir:  tb.TempDir(),
		tb:   tb,
		port: port,
		args: []string{"redis.conf"},
	}
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() {
			tb.Logf("the end of the log of %s:\n%s", s.Addr, s.logTail())
		}
	})
	return s
}

// configure writes the configuration; what comes later overrides. It is in a
// file, because Redis and its sentinels rewrite it on a failover, and a server
// that comes back must read what they wrote.
func (s *Server) configure(config ...[]string) {
	s.tb.Helper()
	text := directives([]string{"--bind", "127.0.0.1", "--port", s.port, "--dir", s.Dir, "--protected-mode", "no"})
	for _, c := range config {
		text += directives(c)
	}
	s.write("redis.conf", text)
}

// directives turns arguments into lines of a configuration file.
func directives(args []string) string {
	var b strings.Builder
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok {
			b.WriteString("\n" + name)
		} else {
			b.WriteString(` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a) + `"`)
		}
	}
	return b.String() + "\n"
}

func (s *Server) write(name, text string) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// Kill ends the process with SIGKILL, whatever it is doing, and returns when it
// is gone. Nothing happens if it is gone already.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return
	}
	// The group: a child that writes a snapshot must not outlive its folder.
	syscall.Kill(-s.pid, syscall.SIGKILL)
	<-s.dead
	s.paused = false
}

// Start starts a server that was killed, with its port, data and configuration,
// and returns when it has read its data. Nothing happens if it is running.
func (s *Server) Start() {
	s.tb.Helper()
	s.launch()
	s.await()
}

// Pause stops the process with SIGSTOP: connections stay open, nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP, true) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT, false) }

func (s *Server) signal(sig syscall.Signal, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		syscall.Kill(-s.pid, sig)
		s.paused = paused
	}
}

// Do sends one command on a connection of its own and returns the answer as
// text: a number in decimal, null as nothing, the elements of arrays and maps
// one a line. What Redis answers as an error is the error, word for word. What
// is about a connection, such as WAIT, MULTI or READONLY, does nothing here.
func (s *Server) Do(args ...string) (string, error) { return s.do(10*time.Second, args...) }

func (s *Server) do(timeout time.Duration, args ...string) (string, error) {
	deadline := time.Now().Add(timeout)
	var conn net.Conn
	var err error
	if dialer := (&net.Dialer{Deadline: deadline}); s.tls == nil {
		conn, err = dialer.Dial("tcp", s.Addr)
	} else {
		conn, err = tls.DialWithDialer(dialer, "tcp", s.Addr, s.tls)
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	if s.auth != nil {
		if _, err := call(conn, r, append([]string{"AUTH"}, s.auth...)); err != nil {
			return "", err
		}
	}
	return call(conn, r, args)
}

// running reports whether the process is there. s.mu is held.
func (s *Server) running() bool {
	if s.dead == nil {
		return false
	}
	select {
	case <-s.dead:
		return false
	default:
		return true
	}
}

// answering reports whether the process is there and not paused.
func (s *Server) answering() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running() && !s.paused
}

// launch starts the process; await waits until it answers. Two halves, for
// those who start several.
func (s *Server) launch() {
	s.tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.tb.Fatal("redis-server is missing, these tests need it: apt-get install redis-server")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, s.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{Setpgid: true})
	started := make(chan error)
	launcher() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		s.tb.Fatal(err)
	}
	dead := make(chan struct{})
	go func() {
		cmd.Wait()
		close(dead)
	}()
	s.pid, s.dead, s.paused = cmd.Process.Pid, dead, false
}

// launcher runs functions on one thread that never ends: what Linux calls the
// death of a parent is the death of the thread that started the child.
var launcher = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

func (s *Server) await() {
	s.tb.Helper()
	Wait(s.tb, "Redis at "+s.Addr, func() error {
		if !s.answering() {
			s.tb.Fatalf("Redis at %s has ended by itself", s.Addr)
		}
		_, err := s.do(time.Second, "PING") // an error too while it is LOADING
		return err
	})
	for _, args := range s.setup {
		if _, err := s.Do(args...); err != nil {
			s.tb.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
	}
}

func (s *Server) logTail() string {
	log, err := os.ReadFile(filepath.Join(s.Dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Wait asks ready again and again until it returns nil, for a minute at most;
// then the test fails with the last error. What names the thing that is waited
// for.
func Wait(tb testing.TB, what string, ready func() error) {
	tb.Helper()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			tb.Fatalf("waited for %s: %v", what, err)
		}
	}
}
