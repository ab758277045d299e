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

// watch is how often AwaitEvents looks.
const watch = 50 * time.Millisecond

// A cursor is an identifier of the stream, milliseconds and a number, padded so
// that texts compare like pairs of numbers.
func cursor(id string) (storage.Cursor, error) {
	ms, n, _ := strings.Cut(id, "-")
	a, err := strconv.ParseUint(ms, 10, 64)
	if err != nil {
		return "", damaged("event", record.ErrDamaged)
	}
	b, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		return "", damaged("event", record.ErrDamaged)
	}
	return storage.Cursor(fmt.Sprintf("%013d-%012d", a, b)), nil
}

// after is where a range begins that holds what is after c.
func after(c storage.Cursor) (string, error) {
	if c == "" {
		return "-", nil
	}
	back, err := cursor(string(c))
	if err != nil || back != c {
		return "", fmt.Errorf("%q is no cursor of this store: %w", c, storage.ErrNotFound)
	}
	return "(" + string(c), nil
}

// AppendEvents implements [storage.Events]. To append them again says nothing
// new.
func (s *Store) AppendEvents(ctx context.Context, list []storage.Event, now time.Time) error {
	if len(list) == 0 {
		return s.begin(ctx)
	}
	longest := int64(0)
	args := make([]any, 2, 2+2*len(list))
	for _, e := range list {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		longest = max(longest, life(now, e.Until))
		args = append(args, data, e.Until.UnixMilli())
	}
	args[0], args[1] = longest, now.Add(-clockMargin).UnixMilli()
	return s.do(ctx, write{script: appendScript, keys: []string{s.eventsKey()}, args: args, repeat: harmless, lasting: true})
}

// Events implements [storage.Events].
func (s *Store) Events(ctx context.Context, from storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	begin, err := after(from)
	if err != nil {
		return nil, from, err
	}
	var entries *redis.XMessageSliceCmd
	if err := s.read(ctx, func(p redis.Pipeliner) { entries = p.XRangeN(ctx, s.eventsKey(), begin, "+", int64(limit)) }); err != nil {
		return nil, from, err
	}
	var list []storage.Event
	next := from
	for _, entry := range entries.Val() {
		var e storage.Event
		text, _ := entry.Values["d"].(string)
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return nil, from, damaged("event", err)
		}
		if e.Cursor, err = cursor(entry.ID); err != nil {
			return nil, from, err
		}
		list, next = append(list, e), e.Cursor
	}
	return list, next, nil
}

// AwaitEvents implements [storage.Events].
func (s *Store) AwaitEvents(ctx context.Context, from storage.Cursor) error {
	tick := time.NewTicker(watch)
	defer tick.Stop()
	for {
		list, _, err := s.Events(ctx, from, 1)
		if err != nil || len(list) > 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
		}
	}
}
