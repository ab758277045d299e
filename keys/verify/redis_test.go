package verify_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// redis is verify.Shared by the README's script.
type redis struct {
	script string
	mu     sync.Mutex
	conn   net.Conn
	in     *bufio.Reader
}

func (r *redis) Charge(ctx context.Context, charges []verify.Charge) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	deadline, _ := ctx.Deadline()
	if err := r.conn.SetDeadline(deadline); err != nil {
		return err
	}
	for i := range charges {
		var b strings.Builder
		args := []string{"EVAL", r.script, "1", "limit:" + hex.EncodeToString(charges[i].Key[:]), strconv.FormatInt(charges[i].Cost.Microseconds(), 10)}
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
		if _, err := r.conn.Write([]byte(b.String())); err != nil {
			return err
		}
		line, err := r.in.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, ":")), 10, 64)
		if err != nil {
			return fmt.Errorf("redis answered %q", line)
		}
		charges[i].Backlog = time.Duration(n) * time.Microsecond
	}
	return nil
}

// newRedis starts a Redis and connects to it.
func newRedis(t *testing.T) *redis {
	t.Helper()
	script, err := os.ReadFile("testdata/charge.lua")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "redis") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatalf("redis-server is needed: %v", err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Fatal("redis-server did not start")
		}
		if strings.Contains(strings.ToLower(lines.Text()), "ready to accept connections") {
			break
		}
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &redis{script: string(script), conn: conn, in: bufio.NewReader(conn)}
}

// TestRedisScriptCounts holds the README's script to the promise of Shared, on
// a real Redis.
func TestRedisScriptCounts(t *testing.T) {
	r := newRedis(t)
	if readme, err := os.ReadFile("README.md"); err != nil || !strings.Contains(string(readme), r.script) {
		t.Errorf("README.md does not have testdata/charge.lua as it is (%v)", err)
	}
	charge := func(key byte, cost time.Duration) time.Duration {
		t.Helper()
		list := []verify.Charge{{Key: [32]byte{key}, Cost: cost}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.Charge(ctx, list); err != nil {
			t.Fatal(err)
		}
		return list[0].Backlog
	}
	const hour = time.Hour
	if got := charge(1, hour); got != hour {
		t.Errorf("a full bucket, charged an hour, needs %s", got)
	}
	if got := charge(1, hour); got <= 2*hour-time.Minute || got > 2*hour {
		t.Errorf("charged another hour, it needs %s", got)
	}
	if got := charge(2, hour); got != hour {
		t.Errorf("another bucket needs %s", got)
	}
	if got := charge(1, 0); got <= 2*hour-time.Minute || got > 2*hour {
		t.Errorf("charged nothing, it needs %s", got)
	}
	// What is full again counts as full, forgotten or not.
	charge(3, time.Microsecond)
	if got := charge(3, hour); got != hour {
		t.Errorf("full again and charged an hour, it needs %s", got)
	}
}
