package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/solegate/solegate/authz"
)

// socket is the operator's API on a Unix socket. Whoever may open it, which is
// whoever this process runs as and root, is an operator.
type socket struct {
	path string
	made os.FileInfo // of the socket, to know it by
	net.Listener
}

// maxSocketPath is the longest path of a socket that every system takes, and
// madeIn the longest that is added to the folder's where the socket is made.
const (
	maxSocketPath = 103
	madeIn        = "/.s4294967295/s"
)

// listenSocket makes the socket, in the place of one that a server left behind.
func listenSocket(path string) (*socket, error) {
	if len(path) > maxSocketPath || len(filepath.Dir(path))+len(madeIn) > maxSocketPath {
		return nil, fmt.Errorf("admin.socket: %s: the path of a socket has %d characters at most, that of its folder %d: choose a shorter one", path, maxSocketPath, maxSocketPath-len(madeIn))
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("admin.socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("admin.socket: %s is there and is no socket: remove it, or choose another path", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("admin.socket: a server listens on %s: end it, or choose another path", path)
		} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("admin.socket: %w", err)
		}
	}
	// It is made where nobody else can go, and moved into place when only its
	// owner may open it: there is no moment in which others could.
	folder, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	defer os.RemoveAll(folder)
	made := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", made)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // it is not there any more
	s := &socket{path: path, Listener: listener}
	if err = os.Chmod(made, 0o600); err == nil {
		if s.made, err = os.Lstat(made); err == nil {
			err = os.Rename(made, path)
		}
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	return s, nil
}

// remove removes the socket, unless another server has put its own there.
func (s *socket) remove() {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
		os.Remove(s.path)
	}
}

type peerKey struct{}

// server serves the operator's API to whoever connects.
func (s *socket) server(handler *authz.Server, log *slog.Logger) *http.Server {
	web := newWeb(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		handler.ServeOperator(w, r, who)
	}), log)
	web.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, peer(c))
	}
	return web
}

// peer says who is at the other end, for the audit log: the user, if the system
// tells it.
func peer(c net.Conn) string {
	if uid, ok := peerUID(c); ok {
		return fmt.Sprintf("socket:uid=%d", uid)
	}
	return "socket"
}
