package feed

import (
	"context"
	"errors"
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
	by  string // kid
}

func (h *Hub) message(typ, audience string, span wire.Span, now time.Time) *message {
	return &message{typ: typ, doc: wire.Message{Issuer: h.config.Issuer, Audience: audience, IssuedAt: now, Span: span}}
}

// errKey says that the key that would sign was revoked, and its successor is
// not known here yet.
var errKey = errors.New("the signing key was revoked and this server does not know the next one yet")

// signer returns the kid of the key that may sign an event at a place. What
// tells of a key's end may itself be signed by it, and what came before, whose
// reader did not know: otherwise nobody would hear of it.
func (h *Hub) signer(ctx context.Context, to wire.Cursor) (string, error) {
	for again := false; ; again = true {
		kid := h.config.Signer()
		h.mu.Lock()
		at, revoked := h.revoked[kid]
		h.mu.Unlock()
		switch {
		case !revoked || to <= at:
			return kid, nil
		case again || h.config.Reload == nil:
			return "", errKey
		}
		if err := h.config.Reload(ctx); err != nil {
			return "", err
		}
	}
}

// signed returns the message's JWS.
func (h *Hub) signed(ctx context.Context, m *message) (string, error) {
	end := endOfAll
	if m.typ == wire.EventType {
		end = m.doc.To
	}
	kid, err := h.signer(ctx, end)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jws != "" && m.by == kid {
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
	m.jws, m.by = jws, kid
	return jws, nil
}

// stream is what an audience is sent. The hub's lock guards it.
type stream struct {
	audience string
	// recent are the last messages, without a gap: the first begins after
	// base, each where the one before ended.
	recent    []*message
	base      wire.Cursor
	heartbeat *message // the last one
	// beats counts the heartbeats that were due; silent says that the store
	// could not be asked at the last one.
	beats       int
	silent      bool
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

// beat makes a heartbeat due. If the store could not be asked nothing will be
// signed: the connection works, and more is not known.
func (st *stream) beat(known bool) {
	st.silent = !known
	st.beats++
	st.wake()
}

// pulse returns the heartbeat that is true now.
func (st *stream) pulse(h *Hub) *message {
	span := wire.Span{From: st.last(), To: h.position}
	if b := st.heartbeat; b == nil || b.doc.Span != span || !b.doc.IssuedAt.Equal(h.asOf) {
		st.heartbeat = h.message(wire.HeartbeatType, st.audience, span, h.asOf)
	}
	return st.heartbeat
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
