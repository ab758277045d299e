package feed

import (
	"context"
	"net/http"
	"time"

	wire "github.com/solegate/solegate/keys/verify/feed"
)

// Subscriber is one stream to one reader.
type Subscriber struct {
	hub    *Hub
	stream *stream
	at     wire.Cursor   // up to where it was sent
	beats  int           // heartbeats that were due
	woken  chan struct{} // has a value when there may be something to send
	ended  chan struct{} // closed when the server ends it
	over   bool          // of the hub's lock: ended is closed
}

// wake tells the subscriber to look again. The hub's lock is held.
func (s *Subscriber) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// end ends the stream. The hub's lock is held.
func (s *Subscriber) end() {
	if !s.over {
		s.over = true
		close(s.ended)
	}
}

// Subscribe begins a stream for an audience after a cursor. The store is asked
// first, so that a cursor of another server, which read more by then, is known
// here. The error is ErrCursor if the cursor is one that nobody gave, or of so
// long ago that a snapshot is needed first, ErrStopped, ErrFull, or the store's.
// Serve must be called, and ends it.
func (h *Hub) Subscribe(ctx context.Context, audience string, after wire.Cursor) (*Subscriber, error) {
	now := h.config.Now()
	if err := h.read(ctx); err != nil {
		return nil, err
	}
	if err := h.known(ctx, after); err != nil {
		return nil, err
	}
	// One that could not sign for now must not look as if it worked.
	if _, err := h.signer(ctx, endOfAll); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.running:
		return nil, ErrStopped
	case h.open >= maxStreams:
		return nil, ErrFull
	case after > h.position:
		return nil, ErrCursor
	}
	st := h.streamOf(audience, now)
	if after < st.base {
		return nil, ErrCursor
	}
	// One heartbeat at once, behind what there is to catch up with: the reader
	// knows that it has everything.
	s := &Subscriber{hub: h, stream: st, at: after, beats: st.beats - 1, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	st.silent = false
	st.subscribers[s] = struct{}{}
	h.open++
	return s, nil
}

// endOfAll is after every cursor.
const endOfAll wire.Cursor = "~"

// atOnce is how many messages are taken from the hub in one go.
const atOnce = 64

// next returns what is to be sent, nothing if there is nothing now. It is false
// when the reader is so far behind that what it needs is gone.
func (s *Subscriber) next() (list []*message, comment, ok bool) {
	h, st := s.hub, s.stream
	h.mu.Lock()
	defer h.mu.Unlock()
	list, ok = st.after(s.at, atOnce)
	if !ok {
		return nil, false, false
	}
	if len(list) > 0 {
		s.at = list[len(list)-1].doc.To
	}
	if s.beats < st.beats && s.at >= st.last() { // also while much happens
		s.beats = st.beats
		if st.silent {
			return list, true, true
		}
		list = append(list, st.pulse(h))
		s.at = h.position
	}
	return list, false, true
}

// Serve sends the stream until the reader is gone, too slow, or the server
// stops. good is asked before each heartbeat whether the reader may still have
// it.
func (s *Subscriber) Serve(w http.ResponseWriter, r *http.Request, good func(context.Context) bool) {
	defer s.close()
	control := http.NewResponseController(w)
	// The server's own time limit for writing is for requests that end. It stays
	// where the connection can't have another. That for reading is over with the
	// request's body.
	control.SetWriteDeadline(time.Time{})
	head := w.Header()
	head["Content-Type"] = []string{wire.StreamMediaType}
	head["Cache-Control"] = []string{"no-store"}
	head["X-Accel-Buffering"] = []string{"no"} // nginx hands each message on at once
	head["X-Content-Type-Options"] = []string{"nosniff"}
	var buf []byte
	for {
		list, comment, ok := s.next()
		if !ok {
			s.hub.config.Log.Warn("a stream is read too slowly and ends; its reader comes again", "audience", s.stream.audience)
			return
		}
		buf = buf[:0]
		if comment {
			buf = wire.AppendComment(buf)
		}
		for _, m := range list {
			if m.typ == wire.HeartbeatType && !good(r.Context()) {
				return
			}
			jws, err := s.hub.signed(r.Context(), m)
			if err != nil {
				s.hub.config.Log.Warn("a message of the feed can't be signed; the stream ends, and its reader comes again", "error", err)
				return
			}
			buf = wire.AppendMessage(buf, m.doc.To, jws)
		}
		if len(buf) == 0 {
			select {
			case <-s.woken:
				continue
			case <-s.ended:
				return
			case <-r.Context().Done():
				return
			}
		}
		control.SetWriteDeadline(time.Now().Add(s.hub.config.WriteTimeout))
		if _, err := w.Write(buf); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		control.SetWriteDeadline(time.Time{}) // in HTTP/2 it would end a stream that has nothing to write
		select {
		case <-s.ended: // also in the middle of much
			return
		default:
		}
	}
}

func (s *Subscriber) close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(s.stream.subscribers, s)
	h.open--
}
