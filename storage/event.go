package storage

import (
	"context"
	"fmt"
	"time"
)

// EventKind says what has stopped being valid.
type EventKind string

// The kinds of events. What Subject and Epoch of one are: see [Event].
const (
	EventUser    EventKind = "user"
	EventSession EventKind = "session"
	EventGrant   EventKind = "grant"
	EventToken   EventKind = "token"
	EventClient  EventKind = "client"
	EventKey     EventKind = "key"
	EventAll     EventKind = "all"
)

// Cursor is a place in the order of events: after the event that has it. The
// empty one is before them all. Cursors compare as texts, in the order of their
// events, and hold letters, digits and "-._" only, at most 64. One names its
// event, too, so none is ever given twice, also not by a store that was
// restored from a backup.
type Cursor string

// ErrCursor says that the store does not have the cursor's event, and that this
// is none of those that were removed because their time was up. It is another
// store's, or of a history that was lost: what a Redis had not acknowledged
// when it failed, what was written to a file after the backup that it was
// restored from. What came since may be at places before the cursor, so begin
// anew at the empty one, and keep what was read before: it may have ended
// things all the same. It is an ErrNotFound.
var ErrCursor = fmt.Errorf("no place in the order of these events: read them from the beginning: %w", ErrNotFound)

// Event says that something stopped being valid, so that whoever has a token
// learns of it before the token expires.
type Event struct {
	// Cursor is the event's place. The store sets it.
	Cursor Cursor `json:"-"`
	// ID is random: the jti of its Security Event Token (RFC 8417 §2.2).
	ID   string    `json:"id"`
	Kind EventKind `json:"kind"`
	// Subject is the identifier: of a user, a session, a grant, a token (jti),
	// a client or a key (kid). Empty for all.
	Subject string `json:"subject,omitempty"`
	// Epoch is the first that is good again, of a user or a client: tokens of
	// an earlier one are dead. It is exact, whatever the clocks say.
	Epoch uint64 `json:"epoch,omitempty"`
	// NotBefore is when it ended. For all, and for whoever can't compare
	// epochs: tokens issued at or before it are dead.
	NotBefore time.Time `json:"not_before"`
	// Until is when the last token that it could hit has expired.
	Until time.Time `json:"until"`
	// Reason is a fixed word for logs, never what somebody typed.
	Reason string `json:"reason,omitempty"`
	// Audiences are whom it concerns; none means everyone.
	Audiences []string `json:"audiences,omitempty"`
	// Status are places in Token Status Lists whose tokens died by it: those
	// of the grants that ended. An event of a client has none: the lists are
	// its own.
	Status []Place `json:"status,omitempty"`
}

// Events keeps what stopped being valid, in order, until no token can be hit
// by it any more.
//
// Whoever ends something appends the event first and changes the state then.
// The two can't be one step where a store is spread over machines. A crash
// between them refuses tokens of what is still alive for the few minutes that
// they have left, and whoever ended it was told that it failed; the other order
// could lose the event, and with it the end.
type Events interface {
	// AppendEvents appends the events in the order of the list, all or none.
	// After ErrUnknown the caller may append them again: an event that is there
	// twice says nothing new.
	AppendEvents(ctx context.Context, list []Event, now time.Time) error
	// Events returns at most limit (1 to 1000) events after the cursor, in
	// their order, and the cursor to go on from: that of the last one, or after
	// itself if there are none. Whoever reads sees a begin of the order: no
	// event appears later before one that was returned, or ErrCursor says so.
	// Whoever goes on from cursor to cursor without that error has missed
	// nothing. What goes goes from the begin of the order: events past Until,
	// but never the last one.
	Events(ctx context.Context, after Cursor, limit int) (list []Event, next Cursor, err error)
	// AwaitEvents returns nil when there may be events after the cursor, also
	// those that another process appended, at the latest 100 milliseconds after
	// they are there; ErrCursor; ErrUnavailable when the store can't tell, or
	// ctx ended.
	AwaitEvents(ctx context.Context, after Cursor) error
}
