package feed

import (
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// message is a document for one audience, signed when it is first sent.
type message struct {
	typ string
	doc wire.Message

	mu  sync.Mutex
	jws string
	by  string // the keys that there were when it was signed
}

func (h *Hub) message(typ, audience string, span wire.Span, now time.Time) *message {
	return &message{typ: typ, doc: wire.Message{Issuer: h.config.Issuer, Audience: audience, IssuedAt: now, Span: span}}
}

// signed returns the message's JWS.
func (h *Hub) signed(m *message) (string, error) {
	keys := h.config.Keys()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jws != "" && m.by == keys {
		return m.jws, nil
	}
	claims, err := m.doc.Claims(m.typ)
	if err != nil {
		return "", err
	}
	jws, err := h.config.Sign(m.typ, claims)
	if err != nil {
		return "", err
	}
	m.jws, m.by = jws, keys
	return jws, nil
}

// stream is what an audience is sent. The hub's lock guards it.
type stream struct {
	audience string
	// recent are the last messages, without a gap: the first begins after
	// base, each where the one before ended.
	recent []*message
	base   wire.Cursor
	// heartbeat is the last one, nil if the store could not be asked; beats
	// counts them.
	heartbeat   *message
	beats       int
	subscribers map[*Subscriber]struct{}
}

// streamOf returns the stream of an audience, and makes it from the tail of
// events if there is none.
func (h *Hub) streamOf(audience string, now time.Time) *stream {
	if st := h.streams[audience]; st != nil {
		return st
	}
	if len(h.streams) >= maxAudiences {
		for a, st := range h.streams {
			if len(st.subscribers) == 0 {
				delete(h.streams, a)
				break
			}
		}
	}
	// The map holds the audience for long, the caller's text may be part of a
	// whole request.
	st := &stream{audience: strings.Clone(audience), base: h.before, subscribers: map[*Subscriber]struct{}{}}
	h.streams[st.audience] = st
	for _, e := range h.tail {
		if concerns(e.Audiences, audience) {
			st.append(h, e, now)
		}
	}
	return st
}

// last is where the last message ended.
func (st *stream) last() wire.Cursor {
	if n := len(st.recent); n > 0 {
		return st.recent[n-1].doc.To
	}
	return st.base
}

// append appends an event and wakes whoever waits for it.
func (st *stream) append(h *Hub, e storage.Event, now time.Time) {
	m := h.message(wire.EventType, st.audience, wire.Span{From: st.last(), To: wire.Cursor(e.Cursor)}, now)
	m.doc.Events = []wire.Event{eventOf(e)}
	st.recent = append(st.recent, m)
	if extra := len(st.recent) - h.config.Backlog; extra > 0 {
		st.base = st.recent[extra-1].doc.To
		st.recent = slices.Delete(st.recent, 0, extra)
	}
	st.wake()
}

// beat makes a heartbeat due. If the store could not be asked nothing is
// signed: the connection works, and more is not known.
func (st *stream) beat(h *Hub, now time.Time, known bool) {
	st.heartbeat = nil
	if known {
		st.heartbeat = h.message(wire.HeartbeatType, st.audience, wire.Span{From: st.last(), To: h.position}, now)
	}
	st.beats++
	st.wake()
}

func (st *stream) wake() {
	for s := range st.subscribers {
		s.wake()
	}
}

// after returns at most n messages that end after a place, and whether none
// before them is missing.
func (st *stream) after(at wire.Cursor, n int) ([]*message, bool) {
	if at < st.base {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(st.recent, at, func(m *message, at wire.Cursor) int {
		if m.doc.To > at {
			return 1
		}
		return -1
	})
	return slices.Clone(st.recent[i:min(i+n, len(st.recent))]), true
}
