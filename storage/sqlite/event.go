package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// watch is how often AwaitEvents looks whether another process wrote.
const watch = 20 * time.Millisecond

// wakeup wakes whoever waits.
type wakeup struct {
	mu sync.Mutex
	ch chan struct{} // closed by the next wake; nil if nobody waits
}

func (w *wakeup) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch == nil {
		w.ch = make(chan struct{})
	}
	return w.ch
}

func (w *wakeup) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch != nil {
		close(w.ch)
		w.ch = nil
	}
}

// A cursor is the sequence number, padded so that texts compare like numbers,
// and the event's tag.
const (
	seqDigits  = 19
	cursorSize = seqDigits + 1 + record.EventTagSize
)

func cursor(seq int64, id string) storage.Cursor {
	return storage.Cursor(fmt.Sprintf("%0*d-%s", seqDigits, seq, record.EventTag(id)))
}

func sequence(c storage.Cursor) (int64, error) {
	if c == "" {
		return 0, nil
	}
	digits, _, _ := strings.Cut(string(c), "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || len(c) != cursorSize || len(digits) != seqDigits {
		return 0, fmt.Errorf("%q: %w", c, storage.ErrCursor)
	}
	return n, nil
}

// AppendEvents implements [storage.Events].
func (s *Store) AppendEvents(ctx context.Context, list []storage.Event, now time.Time) error {
	records := make([][]byte, len(list))
	for i, e := range list {
		var err error
		if records[i], err = encode(e); err != nil {
			return err
		}
	}
	err := s.do(ctx, func(w *writes) error {
		for i, e := range list {
			if _, err := w.exec(stmtAppendEvent, now.UnixMicro(), record.Nanos(e.Until), records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	s.woken.wake()
	return err
}

// Events implements [storage.Events].
func (s *Store) Events(ctx context.Context, after storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	seq, err := sequence(after)
	if err != nil {
		return nil, after, err
	}
	if after != "" {
		limit++ // its own event comes with them, if it is there
	}
	var list []storage.Event
	err = s.rows(ctx, stmtEvents, []any{seq, limit}, func(rows *sql.Rows) error {
		var e storage.Event
		var at int64
		var data []byte
		if err := rows.Scan(&at, &data); err != nil {
			return err
		}
		if err := s.decode(data, &e); err != nil {
			return err
		}
		e.Cursor = cursor(at, e.ID)
		list = append(list, e)
		return nil
	})
	if err != nil {
		return nil, after, err
	}
	if after != "" {
		if len(list) > 0 && list[0].Cursor == after {
			list = list[1:]
		} else {
			// It is not there. That is as it should be only if all up to it was
			// removed, and since the last one never is, there is one behind it.
			var removed bool
			if err := s.row(ctx, stmtEventsBegin, []any{seq}, &removed); err != nil {
				return nil, after, err
			}
			if !removed {
				return nil, after, fmt.Errorf("%q: %w", after, storage.ErrCursor)
			}
			list = list[:min(len(list), limit-1)]
		}
	}
	if len(list) == 0 {
		return nil, after, nil
	}
	return list, list[len(list)-1].Cursor, nil
}

// AwaitEvents implements [storage.Events]. What this process appends wakes it
// at once. The writes of another change SQLite's data_version, which costs a
// look at shared memory.
func (s *Store) AwaitEvents(ctx context.Context, after storage.Cursor) error {
	tick := time.NewTicker(watch)
	defer tick.Stop()
	for {
		woken := s.woken.next()
		version, err := s.dataVersion(ctx)
		if err != nil {
			return err
		}
		list, _, err := s.Events(ctx, after, 1)
		if err != nil || len(list) > 0 {
			return err
		}
		for changed := false; !changed; {
			select {
			case <-woken:
				changed = true
			case <-tick.C:
				now, err := s.dataVersion(ctx)
				if err != nil {
					return err
				}
				changed = now != version
			case <-s.closing:
				return errClosed
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
			}
		}
	}
}

// dataVersion is another number whenever another connection has written.
func (s *Store) dataVersion(ctx context.Context) (n int64, err error) {
	if err := s.watching.QueryRowContext(ctx, "PRAGMA data_version").Scan(&n); err != nil {
		return 0, s.unavailable(err)
	}
	return n, nil
}
