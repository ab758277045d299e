package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/solegate/solegate/keys/verify"
)

// The servers that are this program started again, so that each is a process
// of its own. They say their address in a line, and end when their standard
// input does: also when whoever started them was killed.
const (
	bareMode = "serve-bare"
	apiMode  = "serve-api"
)

// readyPath answers 200 when a server can do its work.
const readyPath = "/readyz"

// answer is what the bare handler and the API say: as little as a handler can.
const answer = "{\"ok\":true}\n"

func ok(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(answer))}
	io.WriteString(w, answer)
}

// serveBare is what everything else is compared with: net/http and nothing.
func serveBare(stdin io.Reader, stdout io.Writer) error {
	return serve(stdin, stdout, http.HandlerFunc(ok))
}

// serveAPI is the same handler behind the verifier that an API imports.
func serveAPI(ctx context.Context, stdin io.Reader, stdout io.Writer, issuer, audience string) error {
	v, err := verify.New(ctx, verifier(issuer, audience))
	if err != nil {
		return err
	}
	protected := protect(v)
	return serve(stdin, stdout, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != readyPath {
			protected.ServeHTTP(w, r)
			return
		}
		if err := v.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}))
}

func verifier(issuer, audience string) verify.Config {
	return verify.Config{Issuer: issuer, Audience: audience, Development: true}
}

// protect puts the handler behind a verifier.
func protect(v *verify.Verifier) http.Handler { return v.Require(scopeAPI)(http.HandlerFunc(ok)) }

func serve(stdin io.Reader, stdout io.Writer, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, l.Addr())
	go func() {
		io.Copy(io.Discard, stdin)
		l.Close()
	}()
	if err := http.Serve(l, h); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
