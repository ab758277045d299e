package verifytest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
)

// snapshot answers with one page.
func (f *Feed) snapshot(w http.ResponseWriter, r *http.Request) {
	f.Pages.Add(1)
	audience, ok := f.asks(w, r)
	if !ok {
		return
	}
	now := f.issuer.now()
	f.mu.Lock()
	from, known := f.number(r.PostFormValue(feed.CursorParameter))
	if !known {
		f.mu.Unlock()
		w.WriteHeader(http.StatusGone)
		return
	}
	m := &feed.Message{Audience: audience, Events: []feed.Event{}}
	to := from
	for ; to < len(f.events) && len(m.Events) < f.page; to++ {
		if e := f.events[to]; e.Until.After(now) {
			m.Events = append(m.Events, e)
		}
	}
	m.More = to < len(f.events)
	m.Span = feed.Span{From: f.cursor(from), To: f.cursor(to)}
	f.mu.Unlock()
	jws := f.sign(feed.SnapshotType, m)
	w.Header().Set("Content-Type", feed.SnapshotMediaType)
	w.Write([]byte(jws))
}

// stream answers with what happens, until it is cut.
func (f *Feed) stream(w http.ResponseWriter, r *http.Request) {
	f.Streams.Add(1)
	audience, ok := f.asks(w, r)
	if !ok {
		return
	}
	f.mu.Lock()
	at, known := f.number(r.PostFormValue(feed.CursorParameter))
	cut, beat, interval, backlog := f.cut, f.beat-1, f.heartbeat, f.backlog
	f.mu.Unlock()
	if !known || at < backlog {
		w.WriteHeader(http.StatusGone)
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	w.Header().Set("Content-Type", feed.StreamMediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out := &streamed{f: f, w: w, flush: http.NewResponseController(w).Flush}
	out.flush()
	due := false
	for {
		f.mu.Lock()
		changed, stalled, beats := f.changed, f.stalled, f.beat
		fresh := f.events[at:len(f.events):len(f.events)]
		f.mu.Unlock()
		if !stalled {
			for _, e := range fresh {
				at++
				out.send(feed.EventType, &feed.Message{Audience: audience, Span: feed.Span{From: f.place(at - 1), To: f.place(at)}, Events: []feed.Event{e}})
			}
			if due || beat < beats {
				due, beat = false, beats
				out.send(feed.HeartbeatType, &feed.Message{Audience: audience, Span: feed.Span{From: f.place(at), To: f.place(at)}})
			}
		}
		if out.err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-f.issuer.closed:
			return
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-ticker.C:
			due = true
		case <-changed:
		}
	}
}

// streamed is one stream.
type streamed struct {
	f     *Feed
	w     http.ResponseWriter
	flush func() error
	err   error
}

// send signs a document and sends what becomes of it.
func (s *streamed) send(typ string, m *feed.Message) {
	list := []string{s.f.sign(typ, m)}
	s.f.mu.Lock()
	if s.f.tamper != nil {
		list = s.f.tamper(list[0])
	}
	s.f.mu.Unlock()
	for _, jws := range list {
		if _, err := s.w.Write(feed.AppendMessage(nil, m.To, jws)); err != nil {
			s.err = fmt.Errorf("the stream is gone: %w", err)
		}
	}
	if err := s.flush(); err != nil {
		s.err = err
	}
}

// place is the cursor for who doesn't hold mu.
func (f *Feed) place(n int) feed.Cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor(n)
}
