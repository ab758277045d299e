package redistest

import (
	"syscall"
	"testing"
)

// dieWithParent has the kernel end a child when the test's process ends, even
// when that one is killed and can clean up nothing.
func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGKILL
	return attr
}

// reserve returns a port of 127.0.0.1 that nobody else gets while the test
// lasts, also while the server that has it is down.
//
// A socket is bound to it and never listens. It is bound alone, and only then
// made to share: so Linux lets those listen that name the port and share too,
// as Redis and Go do, and gives it to nobody who asks for any port.
func reserve(tb testing.TB) int {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return name.(*syscall.SockaddrInet4).Port
}
