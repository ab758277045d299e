// Package feed is the wire format of the revocation feed: what the server says
// has stopped being valid, and how an API reads it. It makes and reads
// payloads. Signing is the server's, and verification the API's, by the key set
// that signs access tokens.
//
// # Three documents
//
// Each is a JWS in compact form, told apart by the typ of its header, and each
// says about which part of the feed it is (the claim feed, see [Span]):
//
//	secevent+jwt   one event, a Security Event Token (RFC 8417)
//	heartbeat+jwt  nothing happened, as of iat
//	snapshot+jwt   a page: all events of a part of the feed that still count
//
// iss is the issuer, aud the one audience of the API that reads, iat when it
// was signed. There is no exp: an old event is as true as a new one. A
// heartbeat and a snapshot say how things stand as of iat, and a reader that
// wants to know that decides how old they may be.
//
// # Two ways to get them
//
// The address is in the issuer's metadata as [MetadataName]. There, an answer
// of type [StreamMediaType] that doesn't end: events and heartbeats as they
// come, each a message as [AppendMessage] writes it and [Reader] reads it. At
// the same address with [SnapshotPath] behind it, one page of a snapshot
// ([SnapshotMediaType]). Both take a POST with the parameter
// [CursorParameter], form-encoded, and the credential of a registered resource
// server by HTTP Basic or as a client_assertion (RFC 7523 §2.2), or a GET with
// HTTP Basic. A cursor that the server can't go on from, because it doesn't know
// it or the stream has lost what comes next, is answered with 410: read the
// snapshot from it, and if that is answered so, too, begin anew, at the empty
// one.
//
// # What a reader does
//
// It keeps a position, at first the empty [Cursor]. It reads snapshot pages
// until one has no More, then the stream, and feeds each document that it
// verified and parsed to [Message.Follow], which says whether the events count and
// what the next position is, or that something is missing. No order of
// disconnects, restarts and replicas loses an event or needs one to be applied
// once only: applying an event again changes nothing.
package feed

import (
	"errors"
	"fmt"
	"time"
)

// The values of typ in the header of a JWS.
const (
	EventType     = "secevent+jwt" // RFC 8417 §2.3
	HeartbeatType = "heartbeat+jwt"
	SnapshotType  = "snapshot+jwt"
)

const (
	// MetadataName is the member of the issuer's metadata (RFC 8414 §2) that
	// has the feed's address.
	MetadataName = "solegate_feed_endpoint"
	// SnapshotPath goes behind the feed's address.
	SnapshotPath = "/snapshot"
	// CursorParameter is where to go on; absent or empty for the beginning.
	CursorParameter = "cursor"

	StreamMediaType   = "text/event-stream"
	SnapshotMediaType = "application/jwt"
)

// Bounds, in bytes, of what a reader accepts.
const (
	MaxMessage  = 16 << 10 // a JWS of the stream
	MaxSnapshot = 2 << 20  // a JWS that is a page
	// MaxPage is how many events a page holds at most.
	MaxPage = 2000

	maxCursor  = 64
	maxSubject = 512
	maxReason  = 128
	maxName    = 2048 // an issuer, an audience
)

// Kind says what has stopped being valid.
type Kind string

// The kinds. A later server may send others: see [Kind.Known].
const (
	// User: the user's tokens whose user_epoch is below Epoch.
	User Kind = "user"
	// Session: tokens with this sid.
	Session Kind = "session"
	// Grant: tokens with this grant_id.
	Grant Kind = "grant"
	// Token: the token with this jti.
	Token Kind = "token"
	// Client: the client's tokens whose client_epoch is below Epoch.
	Client Kind = "client"
	// Key: whatever the key with this kid signed.
	Key Kind = "key"
	// All: every token whose iat is at or before NotBefore.
	All Kind = "all"
)

// Known reports whether this package knows what the kind means. What it
// doesn't know it can't apply: a reader goes on, and tells its operator to
// update it.
func (k Kind) Known() bool {
	switch k {
	case User, Session, Grant, Token, Client, Key, All:
		return true
	}
	return false
}

// Event says that something stopped being valid. Sessions, grants, tokens and
// keys never come back; users and clients do, with tokens of a later epoch.
type Event struct {
	// ID is the jti of the event's Security Event Token. In a snapshot it is
	// left out.
	ID   string
	Kind Kind
	// Subject is the identifier, as tokens have it; empty for All.
	Subject string
	// Epoch is the first that is good again, of a user or a client. A token
	// that says none has epoch 0.
	Epoch uint64
	// NotBefore is when it stopped, in whole seconds. It decides only for All:
	// the clocks of two servers never agree on an order.
	NotBefore time.Time
	// Until is when every token that it is about has expired, in whole
	// seconds: forget it then.
	Until time.Time
	// Reason is a word for a log, or empty. In a snapshot it is left out.
	Reason string
}

// Cursor is a place in the feed: after the event that has it. Cursors compare
// as texts, in the order of their events; the empty one is before them all. A
// reader learns them from what was signed, never makes one.
type Cursor string

// Valid reports whether c has the form of a cursor.
func (c Cursor) Valid() bool {
	for _, b := range []byte(c) {
		if (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && b != '-' && b != '.' && b != '_' {
			return false
		}
	}
	return len(c) <= maxCursor
}

// Span is the part of the feed after From and up to To, with it. A document
// with that span has every event that concerns its audience, still counts, and
// lies in it.
type Span struct{ From, To Cursor }

// What Follow says; test with [errors.Is].
var (
	// ErrRepeated: the reader is past it already. There is nothing to do.
	ErrRepeated = errors.New("the document is one that was read before")
	// ErrGap: between the reader's position and the document something is
	// missing. Read again from the position, another time from a snapshot.
	ErrGap = errors.New("between the last document and this one something is missing")
)

// Follow returns the position of a reader that was at position at, after a
// document with the span. With an error the document's events don't count and
// the position stays.
func (s Span) Follow(at Cursor) (Cursor, error) {
	switch {
	case s.From > at:
		return at, fmt.Errorf("%w: it begins after %q, the last was %q", ErrGap, s.From, at)
	case s.To < at, s.To == at && s.From != s.To:
		return at, ErrRepeated
	}
	return s.To, nil
}

// Follow is that of the span, but for a message without events that ends where
// the reader is: a heartbeat of an audience that nothing concerned for long. It
// repeats nothing.
func (m *Message) Follow(at Cursor) (Cursor, error) {
	if len(m.Events) == 0 && m.To == at {
		return at, nil
	}
	return m.Span.Follow(at)
}

// Message is one of the three documents.
type Message struct {
	Issuer   string
	Audience string
	IssuedAt time.Time // in whole seconds
	Span
	// Events are one in a Security Event Token, none in a heartbeat.
	Events []Event
	// More says, in a snapshot, that the feed goes on after To: read the next
	// page.
	More bool
}
