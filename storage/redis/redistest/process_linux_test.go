package redistest_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/solegate/solegate/storage/redis/redistest"
)

// TestServersDieWithTheProcess: a test that is killed can clean up nothing, and
// leaves no server behind. It runs itself as a child that hangs.
func TestServersDieWithTheProcess(t *testing.T) {
	const isChild = "REDISTEST_CHILD"
	if os.Getenv(isChild) != "" {
		fmt.Printf("addr=%s\n", redistest.Single(t).Addr)
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestServersDieWithTheProcess$", "-test.timeout=2m")
	child.Env = append(os.Environ(), isChild+"=1", "TMPDIR="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		_, addr, _ = strings.Cut(lines.Text(), "addr=")
	}
	dial := func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Errorf("the child's server: %v", err)
	}
	child.Process.Kill()
	child.Wait()
	redistest.Wait(t, "the server to die", func() error {
		if dial() == nil {
			return errors.New("it still listens")
		}
		return nil
	})
}
