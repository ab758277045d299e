package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// An event is an entry of the stream. Its fields are one letter each and always
// in the same order, so that Redis keeps their names once for a hundred
// entries: i the ID, k the kind, s the subject, e the epoch, b not before and u
// until in nanoseconds, r the reason, a the audiences as JSON or nothing, l how
// long it is needed from when it is appended, in milliseconds. Those that have
// places in status lists have them as JSON in p, after all others: an event
// without any is what it was before there were lists.
const (
	eventFields = 9
	eventValues = eventFields + 1 // that the script takes
)

func appendEvent(args []any, e storage.Event, now time.Time) ([]any, error) {
	audiences, err := listText(e.Audiences)
	if err != nil {
		return nil, err
	}
	places, err := listText(e.Status)
	if err != nil {
		return nil, err
	}
	life := e.Until.Sub(now) + clockMargin
	return append(args, e.ID, string(e.Kind), e.Subject, strconv.FormatUint(e.Epoch, 10), record.Nanos(e.NotBefore), record.Nanos(e.Until),
		e.Reason, audiences, life.Milliseconds(), places), nil
}

// listText is a list as JSON, or nothing for an empty one.
func listText[E any](list []E) (string, error) {
	if len(list) == 0 {
		return "", nil
	}
	text, err := json.Marshal(list)
	return string(text), err
}

func decodeEvent(m redis.XMessage) (storage.Event, error) {
	text := func(name string) string { v, _ := m.Values[name].(string); return v }
	var faults []error
	integer := func(name string) int64 {
		n, err := strconv.ParseInt(text(name), 10, 64)
		faults = append(faults, err)
		return n
	}
	epoch, err := strconv.ParseUint(text("e"), 10, 64)
	faults = append(faults, err)
	e := storage.Event{
		ID: text("i"), Kind: storage.EventKind(text("k")), Subject: text("s"), Epoch: epoch,
		NotBefore: record.Instant(integer("b")), Until: record.Instant(integer("u")), Reason: text("r"),
	}
	integer("l")
	if a := text("a"); a != "" {
		faults = append(faults, json.Unmarshal([]byte(a), &e.Audiences))
	}
	fields := eventFields
	if p := text("p"); p != "" {
		fields++
		faults = append(faults, json.Unmarshal([]byte(p), &e.Status))
	}
	e.Cursor, err = cursorOf(m.ID, e.ID)
	faults = append(faults, err)
	for _, err := range faults {
		if err != nil || len(m.Values) != fields {
			return storage.Event{}, damaged("event "+m.ID, record.ErrDamaged)
		}
	}
	return e, nil
}

// A cursor is an entry's identifier, milliseconds and a number, padded so that
// texts compare like pairs of numbers, and the event's tag.
const (
	msDigits     = 13
	numberDigits = 10
	cursorSize   = msDigits + 1 + numberDigits + 1 + record.EventTagSize
)

func cursorOf(entry, id string) (storage.Cursor, error) {
	ms, n, _ := strings.Cut(entry, "-")
	c := storage.Cursor(strings.Repeat("0", max(0, msDigits-len(ms))) + ms + "-" + strings.Repeat("0", max(0, numberDigits-len(n))) + n + "-" + record.EventTag(id))
	if len(c) != cursorSize {
		return "", damaged("event", record.ErrDamaged)
	}
	return c, nil
}

// entryOf returns the identifier of the entry that a cursor stands behind.
func entryOf(c storage.Cursor) (string, error) {
	parts := strings.Split(string(c), "-")
	if len(c) != cursorSize || len(parts) != 3 || len(parts[0]) != msDigits || len(parts[1]) != numberDigits {
		return "", fmt.Errorf("%q: %w", c, storage.ErrCursor)
	}
	for _, p := range parts[:2] {
		if strings.Trim(p, "0123456789") != "" {
			return "", fmt.Errorf("%q: %w", c, storage.ErrCursor)
		}
	}
	return parts[0] + "-" + parts[1], nil
}

// AppendEvents implements [storage.Events]. To append them again says nothing
// new.
func (s *Store) AppendEvents(ctx context.Context, list []storage.Event, now time.Time) error {
	if len(list) == 0 {
		return s.begin(ctx)
	}
	args := make([]any, 1, 1+eventValues*len(list))
	args[0] = record.Nanos(now.Add(-clockMargin))
	for _, e := range list {
		var err error
		if args, err = appendEvent(args, e, now); err != nil {
			return err
		}
	}
	return s.do(ctx, write{script: appendScript, keys: []string{s.eventsKey()}, args: args, repeat: harmless, lasting: true, ends: true})
}

// Events implements [storage.Events].
func (s *Store) Events(ctx context.Context, after storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	begin := "-"
	if after != "" {
		var err error
		if begin, err = entryOf(after); err != nil {
			return nil, after, err
		}
		limit++ // its own event comes with them, if it is there
	}
	var entries, first *redis.XMessageSliceCmd
	if err := s.read(ctx, func(p redis.Pipeliner) {
		entries = p.XRangeN(ctx, s.eventsKey(), begin, "+", int64(limit))
		first = p.XRangeN(ctx, s.eventsKey(), "-", "+", 1)
	}); err != nil {
		return nil, after, err
	}
	var list []storage.Event
	for _, m := range entries.Val() {
		e, err := decodeEvent(m)
		if err != nil {
			return nil, after, err
		}
		list = append(list, e)
	}
	if after == "" {
		return list, last(list, after), nil
	}
	if len(list) > 0 && list[0].Cursor == after {
		return list[1:], last(list, after), nil
	}
	// It is not there. That is as it should be only if all up to it was
	// removed, and since the last one never is, there is one behind it.
	for _, m := range first.Val() {
		if e, err := decodeEvent(m); err != nil {
			return nil, after, err
		} else if place(e.Cursor) > place(after) {
			return list[:min(len(list), limit-1)], last(list[:min(len(list), limit-1)], after), nil
		}
	}
	return nil, after, fmt.Errorf("%q: %w", after, storage.ErrCursor)
}

// place is a cursor without its event's tag.
func place(c storage.Cursor) storage.Cursor { return c[:cursorSize-record.EventTagSize] }

// last is where to go on after a list.
func last(list []storage.Event, after storage.Cursor) storage.Cursor {
	if len(list) == 0 {
		return after
	}
	return list[len(list)-1].Cursor
}

// Sweep implements [storage.Store]. Redis removes by itself what has expired,
// but events and lines of the audit log go from the begin of their order.
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	reply, err := s.run(ctx, write{script: sweepScript, keys: []string{s.eventsKey()}, args: []any{record.Nanos(now.Add(-clockMargin)), limit}, repeat: harmless})
	if err != nil {
		return 0, err
	}
	n, ok := reply.(int64)
	if !ok {
		return 0, fmt.Errorf("%w: script sweep answered %v", storage.ErrUnavailable, reply)
	}
	if int(n) >= limit {
		return int(n), nil
	}
	lines, err := s.sweepAudit(ctx, record.Nanos(now.Add(-clockMargin)), limit-int(n))
	return int(n) + lines, err
}
