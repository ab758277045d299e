package redistest_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage/redis/redistest"
)

// client is a connection on which one can send several commands at once.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

// send sends commands at once, in the form that Redis calls inline, or in its
// own.
func (c *client) send(commands ...string) {
	c.t.Helper()
	if _, err := fmt.Fprint(c.conn, strings.Join(commands, "\r\n")+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// line reads a line of an answer.
func (c *client) line() (string, error) {
	line, err := c.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (c *client) wantLines(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got, err := c.line(); got != w {
			c.t.Fatalf("answer %q, %v; %q expected", got, err, w)
		}
	}
}

func (c *client) wantCut() {
	c.t.Helper()
	if got, err := c.line(); err == nil {
		c.t.Fatalf("answer %q, and the connection should be cut", got)
	}
}

func TestProxy(t *testing.T) {
	s := redistest.Single(t)
	p := redistest.NewProxy(t, s.Addr)

	t.Run("PassesAll", func(t *testing.T) {
		c := dial(t, p.Addr)
		c.send("HELLO 3", "FLUSHALL")
		for line := ""; line != "+OK"; {
			var err error
			if line, err = c.line(); err != nil {
				t.Fatal(err)
			}
		}
		big := strings.Repeat("x", 1<<20)
		c.send(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%s", len(big), big), "GET big", "MGET absent big", "HSET h f v", "HGETALL h", "WRONG")
		c.wantLines("+OK", fmt.Sprint("$", len(big)), big, "*2", "_", fmt.Sprint("$", len(big)), big, ":1", "%1", "$1", "f", "$1", "v")
		c.wantLines("-ERR unknown command 'WRONG', with args beginning with: ")
	})

	t.Run("CutAfterRequest", func(t *testing.T) {
		do(t, s, "FLUSHALL")
		one, two := dial(t, p.Addr), dial(t, p.Addr)
		done := p.CutAfterRequest(3, "INCR")
		one.send("INCR n", "PING")
		one.wantLines(":1", "+PONG")
		two.send("INCR n")
		two.wantLines(":2")
		select {
		case <-done:
			t.Error("it says that it has happened")
		default:
		}
		one.send("PING", "INCR n")
		one.wantLines("+PONG")
		one.wantCut()
		<-done
		if got := do(t, s, "GET", "n"); got != "3" {
			t.Errorf("the command that was let through: n is %s, 3 expected", got)
		}
		two.send("INCR n")
		two.wantLines(":4")
	})

	t.Run("CutBeforeRequest", func(t *testing.T) {
		do(t, s, "FLUSHALL")
		c := dial(t, p.Addr)
		done := p.CutBeforeRequest(2)
		c.send("INCR n")
		c.wantLines(":1")
		c.send("INCR n")
		c.wantCut()
		<-done
		c = dial(t, p.Addr)
		c.send("INCR n")
		c.wantLines(":2")
	})

	t.Run("CutOfADelayedAnswer", func(t *testing.T) {
		p.SetLatency(5 * time.Millisecond)
		defer p.SetLatency(0)
		c := dial(t, p.Addr)
		done := p.CutAfterRequest(3)
		c.send("PING", "PING", "PING", "PING")
		c.wantLines("+PONG", "+PONG")
		c.wantCut()
		<-done
	})

	t.Run("Latency", func(t *testing.T) {
		const latency = 20 * time.Millisecond
		c := dial(t, p.Addr)
		p.SetLatency(latency)
		defer p.SetLatency(0)
		start := time.Now()
		c.send("PING")
		c.wantLines("+PONG")
		if took := time.Since(start); took < 2*latency {
			t.Errorf("there and back in %s", took)
		}
		start = time.Now()
		c.send("PING", "PING", "PING")
		c.wantLines("+PONG", "+PONG", "+PONG")
		if took := time.Since(start); took < 4*latency {
			t.Errorf("three commands there, the last one back in %s", took)
		}
	})

	t.Run("Refuse", func(t *testing.T) {
		c := dial(t, p.Addr)
		c.send("PING")
		c.wantLines("+PONG")
		p.Refuse(true)
		p.Refuse(true)
		c.wantCut()
		if conn, err := net.Dial("tcp", p.Addr); err == nil {
			conn.Close()
			t.Error("a connection is accepted")
		}
		p.Refuse(false)
		p.Refuse(false)
		c = dial(t, p.Addr)
		c.send("PING")
		c.wantLines("+PONG")
	})

	t.Run("Restart", func(t *testing.T) {
		c := dial(t, p.Addr)
		c.send("PING")
		c.wantLines("+PONG")
		s.Kill()
		c.wantCut()
		dial(t, p.Addr).wantCut()
		s.Start()
		c = dial(t, p.Addr)
		c.send("PING")
		c.wantLines("+PONG")
	})
}
