package feed

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// claims are those of all three documents.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti,omitempty"`
	// TimeOfEvent is when it happened, in the words of RFC 8417 §2.2; the event
	// says the same.
	TimeOfEvent int64 `json:"toe,omitempty"`
	// Subject is for readers that know RFC 9493, likewise.
	Subject *subject `json:"sub_id,omitempty"`
	Events  any      `json:"events,omitempty"`
	More    bool     `json:"more,omitempty"`
	Span    span     `json:"feed"`
}

type span struct {
	From Cursor `json:"from"`
	To   Cursor `json:"to"`
}

// event is one as it is written.
type event struct {
	Kind      Kind   `json:"kind"`
	Subject   string `json:"subject,omitempty"`
	Epoch     uint64 `json:"epoch,omitempty"`
	NotBefore int64  `json:"not_before"`
	Until     int64  `json:"until"`
	// Cause is not called reason, which RISC 1.0 §2.3 has two words for.
	Cause string `json:"cause,omitempty"`
	// Timestamp is what CAEP 1.0 §2 calls the time of the event, in its own.
	Timestamp int64 `json:"event_timestamp,omitempty"`
}

// subject is a subject identifier (RFC 9493 §3, Shared Signals Framework 1.0
// §3).
type subject struct {
	Format  string   `json:"format"`
	Issuer  string   `json:"iss,omitempty"`
	Subject string   `json:"sub,omitempty"`
	ID      string   `json:"id,omitempty"`
	JWT     string   `json:"jti,omitempty"`
	URI     string   `json:"uri,omitempty"`
	User    *subject `json:"user,omitempty"`
	Session *subject `json:"session,omitempty"`
}

// Reasons of an event of a user that have an event type of their own.
const (
	ReasonBlocked = "blocked"
	ReasonRemoved = "removed"
)

// Event types: of CAEP 1.0 §3.1 and RISC 1.0 §2.2, §2.3 where one says what
// happened, else ours. There is one in a token: several would be names of the
// same (RFC 8417 §2.2, Shared Signals Framework 1.0 §4.2.1).
const (
	typeSessionRevoked  = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	typeAccountDisabled = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
	typeAccountPurged   = "https://schemas.openid.net/secevent/risc/event-type/account-purged"
	typeOurs            = "https://solegate.dev/event/" // and the kind, -revoked
)

func (e *Event) eventType() string {
	switch {
	case e.Kind == User && e.Reason == ReasonBlocked:
		return typeAccountDisabled
	case e.Kind == User && e.Reason == ReasonRemoved:
		return typeAccountPurged
	case e.Kind == User, e.Kind == Session:
		return typeSessionRevoked
	}
	return typeOurs + string(e.Kind) + "-revoked"
}

// identifier is the event's subject in the words of RFC 9493.
func (e *Event) identifier(issuer string) *subject {
	opaque := &subject{Format: "opaque", ID: e.Subject}
	user := func(id string) *subject { return &subject{Format: "iss_sub", Issuer: issuer, Subject: id} }
	switch e.Kind {
	case User:
		if e.eventType() == typeSessionRevoked {
			// Every session of the user: a simple subject would be the one
			// session that has ended (CAEP 1.0 §3.1).
			return &subject{Format: "complex", User: user(e.Subject)}
		}
		return user(e.Subject)
	case Session:
		s := &subject{Format: "complex", Session: opaque}
		if i := strings.LastIndexByte(e.Subject, '.'); i > 0 {
			s.User = user(e.Subject[:i])
		}
		return s
	case Token:
		return &subject{Format: "jwt_id", Issuer: issuer, JWT: e.Subject}
	case All:
		return &subject{Format: "uri", URI: issuer}
	}
	return opaque
}

// Claims returns the payload of the message as a document of the type, one of
// [EventType], [HeartbeatType] and [SnapshotType]. NotBefore is rounded down
// and Until up, to whole seconds. It is an error if [Parse] would not read it.
func (m *Message) Claims(typ string) ([]byte, error) {
	c := claims{Issuer: m.Issuer, Audience: m.Audience, IssuedAt: m.IssuedAt.Unix(), More: m.More, Span: span(m.Span)}
	if err := m.fits(typ); err != nil {
		return nil, err
	}
	switch typ {
	case EventType:
		e := &m.Events[0]
		out := e.written()
		out.Cause = e.Reason
		name := e.eventType()
		if name == typeSessionRevoked {
			out.Timestamp = out.NotBefore
		}
		c.ID, c.TimeOfEvent, c.Subject, c.Events = e.ID, out.NotBefore, e.identifier(m.Issuer), map[string]event{name: out}
	case SnapshotType:
		list := make([]event, len(m.Events))
		for i := range m.Events {
			list[i] = m.Events[i].written()
		}
		c.Events = list
	}
	return json.Marshal(c)
}

func (e *Event) written() event {
	until := e.Until.Unix()
	if e.Until.Nanosecond() > 0 {
		until++
	}
	return event{Kind: e.Kind, Subject: e.Subject, Epoch: e.Epoch, NotBefore: e.NotBefore.Unix(), Until: until}
}

// fits says what keeps the message from being a document of the type.
func (m *Message) fits(typ string) error {
	switch typ {
	case EventType:
		if len(m.Events) != 1 || m.Events[0].ID == "" || m.From == m.To {
			return fmt.Errorf("feed: an event with a jti and a span of its own is expected, not %d events from %q to %q", len(m.Events), m.From, m.To)
		}
	case HeartbeatType:
		if len(m.Events) != 0 {
			return fmt.Errorf("feed: a heartbeat with %d events", len(m.Events))
		}
	case SnapshotType:
		if len(m.Events) > MaxPage {
			return fmt.Errorf("feed: a page with %d events, at most %d are expected", len(m.Events), MaxPage)
		}
	default:
		return fmt.Errorf("feed: typ is %.40q: %s, %s or %s is expected", typ, EventType, HeartbeatType, SnapshotType)
	}
	switch {
	case m.More && typ != SnapshotType:
		return fmt.Errorf("feed: only a snapshot has more pages")
	case m.More && m.From == m.To:
		return fmt.Errorf("feed: a page that leads nowhere, at %q", m.To)
	case !name(m.Issuer) || !name(m.Audience):
		return fmt.Errorf("feed: iss is %.40q and aud %.40q: at most %d bytes are expected", m.Issuer, m.Audience, maxName)
	case m.IssuedAt.Unix() <= 0:
		return fmt.Errorf("feed: iat is missing")
	case !m.From.Valid() || !m.To.Valid() || m.From > m.To:
		return fmt.Errorf("feed: from %.80q to %.80q is no part of a feed", m.From, m.To)
	}
	for i := range m.Events {
		if err := m.Events[i].fits(); err != nil {
			return err
		}
	}
	return nil
}

func name(s string) bool { return s != "" && len(s) <= maxName && utf8.ValidString(s) }

// Valid says what keeps the event from being sent, or nil.
func (e *Event) Valid() error { return e.fits() }

// fits says what keeps the event from being sent. A kind that is not known is
// one of a later server.
func (e *Event) fits() error {
	switch {
	case e.Kind == "" || len(e.Kind) > 32 || strings.Trim(string(e.Kind), "abcdefghijklmnopqrstuvwxyz_") != "":
		return fmt.Errorf("feed: kind is %.40q", e.Kind)
	case len(e.ID) > maxSubject || !utf8.ValidString(e.ID):
		return fmt.Errorf("feed: jti is %.40q", e.ID)
	case len(e.Subject) > maxSubject || !utf8.ValidString(e.Subject):
		return fmt.Errorf("feed: subject is %.40q: at most %d bytes are expected", e.Subject, maxSubject)
	case (e.Subject == "") != (e.Kind == All) && e.Kind.Known():
		return fmt.Errorf("feed: an event of kind %s with subject %.40q", e.Kind, e.Subject)
	case e.Epoch == 0 && (e.Kind == User || e.Kind == Client):
		return fmt.Errorf("feed: an event of %s %.40q ends no epoch", e.Kind, e.Subject)
	case !whole(e.NotBefore) || !whole(e.Until):
		return fmt.Errorf("feed: not_before is %s and until %s", e.NotBefore, e.Until)
	case len(e.Reason) > maxReason || !utf8.ValidString(e.Reason):
		return fmt.Errorf("feed: reason is %.40q: at most %d bytes are expected", e.Reason, maxReason)
	}
	return nil
}

// farthest is the last second of the year 9998: what is later was not meant.
const farthest = 253370764799

func whole(t time.Time) bool { return t.Unix() > 0 && t.Unix() <= farthest }
