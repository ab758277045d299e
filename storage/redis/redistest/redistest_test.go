package redistest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage/redis/redistest"
)

// do is a command that must succeed.
func do(t *testing.T, s *redistest.Server, args ...string) string {
	t.Helper()
	answer, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return answer
}

func TestKilledServerKeepsItsData(t *testing.T) {
	s := redistest.Single(t, "--appendfsync", "always")
	do(t, s, "SET", "key", "two\r\nlines")
	for range 3 {
		addr := s.Addr
		s.Kill()
		s.Kill()
		if _, err := s.Do("PING"); err == nil {
			t.Fatal("a killed server answers")
		}
		s.Start()
		s.Start()
		if s.Addr != addr {
			t.Fatalf("after a restart at %s, before at %s", s.Addr, addr)
		}
		if got := do(t, s, "GET", "key"); got != "two\r\nlines" {
			t.Fatalf("after a restart: %q", got)
		}
	}
}

func TestAnswers(t *testing.T) {
	s := redistest.Single(t, "--maxmemory", "3mb")
	for _, test := range []struct{ command, want string }{
		{"PING", "PONG"},
		{"INCR n", "1"},
		{"GET absent", ""},
		{"MGET n absent n", "1\n\n1"},
		{"CONFIG GET maxmemory", "maxmemory\n3145728"},
		{"CONFIG GET maxmemory-policy", "maxmemory-policy\nnoeviction"},
		{"CONFIG GET appendonly", "appendonly\nyes"},
		{"CONFIG GET appendfsync", "appendfsync\neverysec"},
		{"CONFIG GET save", "save\n"},
	} {
		if got := do(t, s, strings.Fields(test.command)...); got != test.want {
			t.Errorf("%s: %q, %q expected", test.command, got, test.want)
		}
	}
	if _, err := s.Do("GET"); err == nil || !strings.HasPrefix(err.Error(), "ERR wrong number of arguments") {
		t.Errorf("GET without a key: %v", err)
	}
}

func TestPausedServerAnswersLater(t *testing.T) {
	s := redistest.Single(t)
	s.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := s.Do("SET", "key", "value")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a paused server answers: %v", err)
	default:
	}
	s.Resume()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	s.Pause()
	s.Kill() // or the test would not end
}

// TestMissingRedisFails: it runs another test where no redis-server is found.
func TestMissingRedisFails(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestAnswers$")
	child.Env = append(os.Environ(), "PATH="+t.TempDir())
	out, err := child.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "apt-get install redis-server") || strings.Contains(string(out), "SKIP") {
		t.Errorf("without redis-server: %v\n%s", err, out)
	}
}
