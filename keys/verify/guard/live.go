package guard

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// websocket reports whether a request asks for a WebSocket.
func websocket(r *http.Request) bool {
	if r.ProtoMajor != 1 || len(r.Header["Upgrade"]) != 1 || !strings.EqualFold(r.Header["Upgrade"][0], "websocket") {
		return false
	}
	for _, line := range r.Header["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}

// upgradable refuses a WebSocket that is none (RFC 6455 §4.1): an upstream that
// refuses it, or reads on after the headers, must find nothing there. And one
// whose token has expired, as the leeway allows: it would be closed at once.
func (g *Guard) upgradable(r *http.Request, t *verify.Token) error {
	if r.Method != http.MethodGet || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Sec-Websocket-Version") != "13" || len(r.Header["Sec-Websocket-Key"]) != 1 {
		return &verify.Error{Code: "invalid_request", Description: "The handshake of a WebSocket is expected.", Status: http.StatusBadRequest, Cause: errors.New("no handshake by RFC 6455")}
	}
	if t != nil && !t.Expires.After(g.config.Verify.Now()) {
		return &verify.Error{Code: "invalid_token", Description: "The access token is invalid or has expired.", Status: http.StatusUnauthorized, Cause: errors.New("the token has expired, and a WebSocket would be closed at once")}
	}
	return nil
}

// endInTime ends what goes on when the guard stops, or when its token does:
// when it expires, or is revoked.
func (g *Guard) endInTime(r *http.Request, p *passage) {
	stop := context.AfterFunc(g.done, p.end)
	p.ends = append(p.ends, func() { stop() })
	if p.token == nil {
		return
	}
	ctx, leave := g.verify.Watch(r.Context())
	over := context.AfterFunc(ctx, func() {
		// What expires does so all the time.
		if e, ok := errors.AsType[*verify.Error](context.Cause(ctx)); ok && g.config.Verify.Now().Before(p.token.Expires) {
			g.config.Verify.Log.InfoContext(r.Context(), "what was open is closed", "path", r.URL.Path, "error", e.Code, "cause", e.Cause)
		}
		p.end()
	})
	p.ends = append(p.ends, func() {
		over()
		leave()
	})
}

// end ends it now. A client that takes nothing could hold its connection for
// ever, so that is closed, too.
func (p *passage) end() {
	p.ended.Store(true)
	p.cancel()
	if conn := p.conn.Load(); conn != nil {
		(*conn).Close()
	}
}

func (p *passage) stop() {
	for _, stop := range p.ends {
		stop()
	}
}

// ending is a body that ends well, as if the upstream had ended it, when it is
// ended.
type ending struct {
	io.ReadCloser
	passage *passage
}

// Read implements [io.Reader].
func (e *ending) Read(b []byte) (int, error) {
	n, err := e.ReadCloser.Read(b)
	if err != nil && e.passage.ended.Load() {
		err = io.EOF
	}
	return n, err
}

// patient writes an answer, and waits for a client that does not take it for
// the time-out and no longer. The server's own time-outs are for the whole of
// a request, which may be a stream: they are lifted.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	passage *passage
}

func newPatient(w http.ResponseWriter, control *http.ResponseController, timeout time.Duration, p *passage) *patient {
	control.SetReadDeadline(time.Time{})
	control.SetWriteDeadline(time.Time{})
	return &patient{w, control, timeout, p}
}

// Write implements [http.ResponseWriter].
func (p *patient) Write(b []byte) (int, error) {
	p.control.SetWriteDeadline(time.Now().Add(p.timeout))
	defer p.control.SetWriteDeadline(time.Time{})
	return p.ResponseWriter.Write(b)
}

// FlushError is what [http.ResponseController] calls.
func (p *patient) FlushError() error {
	p.control.SetWriteDeadline(time.Now().Add(p.timeout))
	defer p.control.SetWriteDeadline(time.Time{})
	return p.control.Flush()
}

// Hijack is what [http.ResponseController] calls.
func (p *patient) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, b, err := p.control.Hijack()
	if err == nil {
		p.passage.conn.Store(&conn)
		if p.passage.ended.Load() { // it may have come too late for end
			conn.Close()
		}
	}
	return conn, b, err
}

// end bounds what the server itself still sends.
func (p *patient) end() { p.control.SetWriteDeadline(time.Now().Add(p.timeout)) }

// patientBody is a request's body; it bounds each read. In between there is no
// bound: the server reads ahead to learn that the client went away.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
	timeout time.Duration
}

// Read implements [io.Reader].
func (p *patientBody) Read(b []byte) (int, error) {
	p.control.SetReadDeadline(time.Now().Add(p.timeout))
	defer p.control.SetReadDeadline(time.Time{})
	return p.ReadCloser.Read(b)
}
