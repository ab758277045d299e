package redistest

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between a store and one server, and makes trouble.
type Proxy struct {
	Addr string

	to       string
	latency  atomic.Int64
	refusing atomic.Bool
	mu       sync.Mutex
	cut      []byte // the next request with this in it is the last of its connection
	after    bool   // and the server gets it
	from, in []byte // what is replaced in answers
	open     map[net.Conn]bool
}

// NewProxy starts a proxy in front of a server.
func NewProxy(tb testing.TB, to *Server) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to.Addr, open: map[net.Conn]bool{}}
	var work sync.WaitGroup
	tb.Cleanup(func() {
		l.Close()
		p.CutAll()
		work.Wait()
	})
	work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.serve(client) })
		}
	})
	return p
}

// SetLatency delays every request and every answer.
func (p *Proxy) SetLatency(d time.Duration) { p.latency.Store(int64(d)) }

// Refuse ends all connections and takes no new ones, or takes them again.
func (p *Proxy) Refuse(yes bool) {
	p.refusing.Store(yes)
	if yes {
		p.CutAll()
	}
}

// CutAll ends all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}

// CutBefore ends the connection of the next request that has text in it: the
// server never gets it.
func (p *Proxy) CutBefore(text string) { p.arm(text, false) }

// CutAfter ends the connection of the next request that has text in it when
// the server has answered: it was done, and nobody is told.
func (p *Proxy) CutAfter(text string) { p.arm(text, true) }

func (p *Proxy) arm(text string, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.after = []byte(text), after
}

// Armed reports whether the cut that was asked for has yet to happen.
func (p *Proxy) Armed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut != nil
}

// Replace replaces text in every answer by another of the same length.
func (p *Proxy) Replace(text, by string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.in = []byte(text), []byte(by)
}

func (p *Proxy) register(c net.Conn, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.open[c] = true
	} else {
		delete(p.open, c)
		c.Close()
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.register(client, true)
	defer p.register(client, false)
	if p.refusing.Load() {
		return
	}
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	p.register(server, true)
	defer p.register(server, false)
	var silent atomic.Bool
	var work sync.WaitGroup
	work.Go(func() {
		defer client.Close()
		p.pump(server, func(b []byte) bool {
			p.mu.Lock()
			if p.from != nil {
				b = bytes.ReplaceAll(b, p.from, p.in)
			}
			p.mu.Unlock()
			if silent.Load() {
				return false
			}
			_, err := client.Write(b)
			return err == nil
		})
	})
	p.pump(client, func(b []byte) bool {
		p.mu.Lock()
		hit := p.cut != nil && bytes.Contains(b, p.cut)
		after := p.after
		if hit {
			p.cut = nil
		}
		p.mu.Unlock()
		if hit && !after {
			return false
		}
		if hit {
			silent.Store(true)
		}
		_, err := server.Write(b)
		return err == nil
	})
	if !silent.Load() {
		server.Close()
	}
	work.Wait() // after a cut the server's answer ends it
}

// pump hands on what comes, a piece at a time.
func (p *Proxy) pump(from net.Conn, to func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if d := time.Duration(p.latency.Load()); d > 0 {
				<-time.After(d)
			}
			if !to(buf[:n]) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
