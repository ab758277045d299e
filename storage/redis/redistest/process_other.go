//go:build unix && !linux

package redistest

import (
	"net"
	"syscall"
	"testing"
)

// dieWithParent does nothing: only Linux can do it, and elsewhere a test that
// is killed leaves its servers behind.
func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }

// reserve returns a port that is free now.
func reserve(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
