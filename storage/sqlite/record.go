package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/solegate/solegate/storage"
)

// encode encodes a record of ours.
func encode(record any) ([]byte, error) { return json.Marshal(record) }

// decode decodes what encode made. A record that can't be decoded is damage.
func (s *Store) decode(data []byte, record any) error {
	if err := json.Unmarshal(data, record); err != nil {
		return s.damaged(err)
	}
	return nil
}

func (s *Store) damaged(err error) error {
	return s.unavailable(fmt.Errorf("a record is damaged: restore the file from a backup: %w", err))
}

// row reads one row.
func (s *Store) row(ctx context.Context, st statement, args []any, into ...any) error {
	if err := ctx.Err(); err != nil {
		return s.unavailable(err)
	}
	// A read by key takes microseconds and never waits for a writer: to watch
	// ctx meanwhile would cost a goroutine.
	err := s.read[st].QueryRowContext(context.WithoutCancel(ctx), args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return storage.ErrNotFound
	}
	if err != nil {
		return s.unavailable(err)
	}
	return nil
}

// rows reads a page of rows; scan reads one.
func (s *Store) rows(ctx context.Context, st statement, args []any, scan func(*sql.Rows) error) error {
	rows, err := s.read[st].QueryContext(ctx, args...)
	if err != nil {
		return s.unavailable(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.unavailable(err)
		}
	}
	if err := rows.Err(); err != nil {
		return s.unavailable(err)
	}
	return nil
}

// versioned reads a record that is replaced by compare-and-swap.
func versioned[R any](ctx context.Context, s *Store, st statement, version func(*R, uint64), args ...any) (R, error) {
	var record R
	var v uint64
	var blob []byte
	if err := s.row(ctx, st, args, &v, &blob); err != nil {
		return record, err
	}
	if err := s.decode(blob, &record); err != nil {
		return record, err
	}
	version(&record, v)
	return record, nil
}

// page reads a page of such records.
func page[R any](ctx context.Context, s *Store, st statement, version func(*R, uint64), p storage.Page) ([]R, error) {
	list := []R{}
	err := s.rows(ctx, st, []any{p.After, p.Limit}, func(rows *sql.Rows) error {
		var record R
		var v uint64
		var blob []byte
		if err := rows.Scan(&v, &blob); err != nil {
			return err
		}
		if err := s.decode(blob, &record); err != nil {
			return err
		}
		version(&record, v)
		list = append(list, record)
		return nil
	})
	return list, err
}

// swap makes the outcome of a compare-and-swap: nothing changed is a conflict,
// or there is no such record.
func (w *writes) swap(changed int64, err error, look statement, id string) error {
	if err != nil || changed == 1 {
		return err
	}
	var version uint64
	var data []byte
	if err := w.row(look, []any{id}, &version, &data); err != nil {
		return err
	}
	return storage.ErrConflict
}

// gone is the outcome of a removal.
func gone(changed int64, err error) error {
	if err == nil && changed == 0 {
		return storage.ErrNotFound
	}
	return err
}
