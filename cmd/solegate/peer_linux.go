package main

import (
	"net"
	"syscall"
)

// peerUID returns the user that the kernel says opened the connection (unix(7),
// SO_PEERCRED).
func peerUID(c net.Conn) (uid uint32, ok bool) {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var credential *syscall.Ucred
	control := raw.Control(func(fd uintptr) {
		credential, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if control != nil || err != nil {
		return 0, false
	}
	return credential.Uid, true
}
