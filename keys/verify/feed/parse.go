package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// Parse reads the payload of a JWS that was verified and whose header has the
// typ. It must be from the issuer for the audience. Members that it doesn't
// know are left alone. The caller checks IssuedAt where it matters, and the
// span by [Message.Follow].
func Parse(typ string, payload []byte, issuer, audience string) (*Message, error) {
	m := &Message{}
	r := reader{m: m, typ: typ}
	if err := strict.Object(payload, r.member); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	switch {
	case m.Issuer != issuer:
		return nil, fmt.Errorf("feed: iss is %.100q, %q is expected", m.Issuer, issuer)
	case m.Audience != audience:
		return nil, fmt.Errorf("feed: aud is %.100q, %q is expected", m.Audience, audience)
	case !r.spanned:
		return nil, errors.New("feed: the part of the feed (feed) is missing")
	}
	if len(m.Events) == 1 {
		m.Events[0].ID = r.id
	}
	if err := m.fits(typ); err != nil {
		return nil, err
	}
	return m, nil
}

type reader struct {
	m       *Message
	typ     string
	id      string // jti
	spanned bool
}

// member takes a claim.
func (r *reader) member(name, value string) (err error) {
	switch name {
	case "iss":
		r.m.Issuer, err = strict.Text(value)
	case "aud":
		r.m.Audience, err = strict.Text(value)
	case "iat":
		r.m.IssuedAt, err = date(value)
	case "jti":
		if r.typ == EventType {
			r.id, err = strict.Text(value)
		}
	case "feed":
		r.spanned = true
		err = strict.Object([]byte(value), r.span)
	case "more":
		if value != "true" && value != "false" {
			return fmt.Errorf("more is %.20q, true or false is expected", value)
		}
		r.m.More = value == "true"
	case "events":
		switch r.typ {
		case EventType:
			err = strict.Object([]byte(value), r.eventOfType)
		case SnapshotType:
			err = r.page(value)
		default:
			err = errors.New("there are events in a heartbeat")
		}
	}
	return err
}

func (r *reader) span(name, value string) (err error) {
	var text string
	switch name {
	case "from":
		text, err = strict.Text(value)
		r.m.From = Cursor(text)
	case "to":
		text, err = strict.Text(value)
		r.m.To = Cursor(text)
	}
	return err
}

// eventOfType takes the one event of a Security Event Token; what its type is
// called is for others.
func (r *reader) eventOfType(_, value string) error {
	if len(r.m.Events) > 0 {
		return errors.New("there is more than one event")
	}
	return r.event(value)
}

// page takes the events of a snapshot.
func (r *reader) page(value string) error {
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(value), &list); err != nil || value[0] != '[' {
		return fmt.Errorf("a list of events is expected, not %.20q", value)
	}
	if len(list) > MaxPage {
		return fmt.Errorf("there are %d events, at most %d are expected", len(list), MaxPage)
	}
	r.m.Events = make([]Event, 0, len(list))
	for _, raw := range list {
		if err := r.event(string(raw)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) event(value string) error {
	var e Event
	if err := strict.Object([]byte(value), e.member); err != nil {
		return err
	}
	if r.typ == SnapshotType {
		e.Reason = ""
	}
	r.m.Events = append(r.m.Events, e)
	return nil
}

func (e *Event) member(name, value string) (err error) {
	var text string
	switch name {
	case "kind":
		text, err = strict.Text(value)
		e.Kind = Kind(text)
	case "subject":
		e.Subject, err = strict.Text(value)
	case "epoch":
		e.Epoch, err = strconv.ParseUint(value, 10, 64)
	case "not_before":
		e.NotBefore, err = date(value)
	case "until":
		e.Until, err = date(value)
	case "cause":
		e.Reason, err = strict.Text(value)
	}
	return err
}

// date reads whole seconds.
func date(value string) (time.Time, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("a time in whole seconds is expected, not %.20q", value)
	}
	return time.Unix(n, 0), nil
}
