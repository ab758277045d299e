package feed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	wire "github.com/solegate/solegate/keys/verify/feed"
)

// Page is a signed page of a snapshot.
type Page struct {
	JWS  string
	ETag string // quoted, as the header carries it

	to   wire.Cursor
	more bool
	at   time.Time
	by   string
}

type pageKey struct {
	audience string
	after    wire.Cursor
}

// Bounds of the pages: how many are kept, and how large one may be, in bytes
// of events before they are encoded for good.
const (
	maxPages    = 32
	maxPageSize = 1 << 20
)

// Snapshot returns the page after a cursor of what concerns the audience and
// still counts. The store was asked before, so it is complete as of its iat.
// For at most Heartbeat it is the same page, while nothing happened. The error
// is ErrCursor, or the store's.
func (h *Hub) Snapshot(ctx context.Context, audience string, after wire.Cursor) (*Page, error) {
	now := h.config.Now()
	if err := h.read(ctx); err != nil {
		return nil, err
	}
	if err := h.known(ctx, after); err != nil {
		return nil, err
	}
	kid, err := h.signer(ctx, endOfAll)
	if err != nil {
		return nil, err
	}
	key := pageKey{audience, after}
	m, kept, err := h.page(key, now, kid)
	if err != nil || kept != nil {
		return kept, err
	}
	// Signed without the lock: it is a thousand times the work of the rest.
	claims, err := m.Claims(wire.SnapshotType)
	if err != nil {
		return nil, err
	}
	jws, err := h.config.Sign(wire.SnapshotType, claims)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(jws))
	p := &Page{JWS: jws, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`, to: m.To, more: m.More, at: now, by: kid}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.pages) >= maxPages {
		clear(h.pages)
	}
	h.pages[key] = p
	return p, nil
}

// page returns the page that is kept, or what one to sign says.
func (h *Hub) page(key pageKey, now time.Time, kid string) (*wire.Message, *Page, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key.after > h.position {
		return nil, nil, ErrCursor
	}
	if p := h.pages[key]; p != nil && p.by == kid && (p.more || p.to == h.position) && !now.Before(p.at) && now.Sub(p.at) < h.config.Heartbeat {
		return nil, p, nil
	}
	m := h.message(wire.SnapshotType, key.audience, wire.Span{From: key.after, To: h.position}, h.asOf)
	first, found := slices.BinarySearchFunc(h.live, key.after, func(e entry, c wire.Cursor) int { return strings.Compare(string(e.cursor), string(c)) })
	if found {
		first++
	}
	size, past := 0, now.Unix()
	for i := first; i < len(h.live); i++ {
		e := &h.live[i]
		if e.until <= past || !concerns(e.audiences, key.audience) {
			continue
		}
		// A character of a subject may be written as six.
		if size += 128 + 6*len(e.subject); len(m.doc.Events) == wire.MaxPage || size > maxPageSize {
			m.doc.To, m.doc.More = h.live[i-1].cursor, true
			break
		}
		m.doc.Events = append(m.doc.Events, wire.Event{
			Kind: e.kind, Subject: e.subject, Epoch: e.epoch, NotBefore: time.Unix(e.notBefore, 0), Until: time.Unix(e.until, 0),
		})
	}
	return &m.doc, nil, nil
}
