package redistest

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a network in front of one server, that can be slow and break. A
// client connects to Addr, in plain TCP.
//
// It knows commands from one another, and so can count them. An answer belongs
// to a request because it has the same number on its connection: a client that
// subscribes to channels may be delayed and refused, but not cut.
type Proxy struct {
	// Addr is where the proxy listens, instead of the server.
	Addr string

	tb    testing.TB
	to    string
	wg    sync.WaitGroup // of everything that it does
	mu    sync.Mutex     // guards what follows
	port  net.Listener   // nil while it refuses
	delay time.Duration
	next  *cut                // nil for none
	edit  func([]byte) []byte // of answers; nil for none
	links map[*link]bool
}

// cut is a connection to break.
type cut struct {
	countdown  int // of requests
	containing []string
	after      bool // the server has answered
	done       chan struct{}
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	closed         chan struct{}
	once           sync.Once

	mu    sync.Mutex // guards what follows
	sent  int        // requests so far
	cutAt int        // the number of the request whose answer is lost
	cut   *cut       // nil for none
}

// NewProxy starts a proxy in front of the server at an address: its Addr.
func NewProxy(tb testing.TB, to string) *Proxy {
	tb.Helper()
	// Refuse gives the port up for a while, and must get it again.
	addr := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: reserve(tb)}
	p := &Proxy{Addr: addr.String(), tb: tb, to: to, links: map[*link]bool{}}
	p.Refuse(false)
	tb.Cleanup(func() {
		p.Refuse(true)
		p.wg.Wait()
	})
	return p
}

// SetLatency delays every command on its way to the server and every answer on
// its way back, on all connections. Commands that a client sends at once are
// delayed one after the other, so that other clients come in between.
func (p *Proxy) SetLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Edit changes every answer, as a server of another kind would answer.
func (p *Proxy) Edit(edit func(answer []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.edit = edit
}

// CutAfterRequest breaks the connection of the nth next command, counted over
// all connections, after the server has executed it and before its answer
// comes back. The client can't know whether it was executed; it was.
//
// Only commands are counted that contain all of the strings given, such as
// "EVALSHA": clients send some on each new connection of which their callers
// know nothing. The channel is closed when it has happened, so that a test can
// tell. Another call replaces one that hasn't.
func (p *Proxy) CutAfterRequest(n int, containing ...string) <-chan struct{} {
	p.tb.Helper()
	return p.setCut(n, containing, true)
}

// CutBeforeRequest is CutAfterRequest, but the server never sees the command.
// To the client it looks the same.
func (p *Proxy) CutBeforeRequest(n int, containing ...string) <-chan struct{} {
	p.tb.Helper()
	return p.setCut(n, containing, false)
}

func (p *Proxy) setCut(n int, containing []string, after bool) <-chan struct{} {
	p.tb.Helper()
	if n < 1 {
		p.tb.Fatalf("the next command is number 1, not %d", n)
	}
	c := &cut{countdown: n, containing: containing, after: after, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = c
	return c.done
}

// Refuse breaks all connections and refuses new ones, until it is told to stop.
func (p *Proxy) Refuse(refuse bool) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !refuse {
		if p.port != nil {
			return
		}
		l, err := net.Listen("tcp", p.Addr)
		if err != nil {
			p.tb.Fatal(err)
		}
		p.port = l
		p.wg.Go(func() { p.accept(l) })
		return
	}
	if p.port != nil {
		p.port.Close()
		p.port = nil
	}
	for l := range p.links {
		l.close()
	}
}

func (p *Proxy) accept(port net.Listener) {
	for {
		client, err := port.Accept()
		if err != nil {
			return // Refuse has closed it
		}
		p.wg.Go(func() { p.serve(port, client) })
	}
}

// serve is a connection's life.
func (p *Proxy) serve(port net.Listener, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	l := &link{client: client, server: server, closed: make(chan struct{})}
	defer l.close()
	p.mu.Lock()
	refused := p.port != port // since it was accepted
	if !refused {
		p.links[l] = true
	}
	p.mu.Unlock()
	if refused {
		return
	}
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		defer l.close()
		p.answer(l)
	}()
	p.request(l)
	l.close()
	<-answers
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// request brings the client's commands to the server until the connection ends.
func (p *Proxy) request(l *link) {
	r := bufio.NewReader(l.client)
	for {
		m, err := read(r)
		if err != nil || !p.pass(l) {
			return
		}
		c := p.due(m)
		if c != nil && !c.after {
			l.close()
			close(c.done)
			return
		}
		l.mu.Lock()
		l.sent++
		if c != nil {
			l.cut, l.cutAt = c, l.sent
		}
		l.mu.Unlock()
		if _, err := l.server.Write(m.raw); err != nil {
			return
		}
	}
}

// answer brings the server's answers to the client until the connection ends.
func (p *Proxy) answer(l *link) {
	r := bufio.NewReader(l.server)
	for answered := 0; ; {
		m, err := read(r)
		if err != nil {
			return
		}
		if m.kind != '>' { // what nobody asked for
			answered++
		}
		l.mu.Lock()
		c, cutAt := l.cut, l.cutAt
		l.mu.Unlock()
		if c != nil && answered == cutAt {
			l.close()
			close(c.done)
			return
		}
		if !p.pass(l) {
			return
		}
		p.mu.Lock()
		edit := p.edit
		p.mu.Unlock()
		if edit != nil {
			m.raw = edit(m.raw)
		}
		if _, err := l.client.Write(m.raw); err != nil {
			return
		}
	}
}

// pass waits as long as a message takes, and reports whether the connection is
// still there.
func (p *Proxy) pass(l *link) bool {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

// due counts a request and returns the cut whose turn it is, or nil.
func (p *Proxy) due(m message) *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.next
	if c == nil {
		return nil
	}
	for _, s := range c.containing {
		if !bytes.Contains(m.raw, []byte(s)) {
			return nil
		}
	}
	if c.countdown--; c.countdown > 0 {
		return nil
	}
	p.next = nil
	return c
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.closed)
		l.client.Close()
		l.server.Close()
	})
}
