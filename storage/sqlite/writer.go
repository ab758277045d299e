package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/storage"
)

// operation is a write that waits for the writer.
type operation struct {
	run   func(*writes) error
	done  chan error
	state atomic.Int32 // waiting, then whichever of the other two comes first
}

const (
	waiting   = iota
	begun     // by the writer, which will answer
	abandoned // by the caller, whose context ended: it never runs
)

// maxBatch bounds how many operations share a transaction, so that none waits
// long for the others.
const maxBatch = 256

// do runs an operation in the next transaction and returns when it is on disk,
// or refused, or failed. When ctx ends while the operation waits for its turn,
// it never happens. One that has begun is waited for even then: its outcome is
// known a moment later.
func (s *Store) do(ctx context.Context, run func(*writes) error) error {
	if err := ctx.Err(); err != nil { // select alone would take either way
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	op := &operation{run: run, done: make(chan error, 1)}
	select {
	case s.queue <- op:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		if op.state.CompareAndSwap(waiting, abandoned) {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
		}
		return <-op.done // begun, so it is answered
	case <-s.closed:
		select {
		case err := <-op.done:
			return err
		default:
			return errClosed
		}
	}
}

var errClosed = fmt.Errorf("%w: the store is closed", storage.ErrUnavailable)

// writer commits what waits, group by group, until the store is closed.
func (s *Store) writer() {
	defer close(s.closed)
	var batch []*operation
	for {
		select {
		case op := <-s.queue:
			batch = append(batch[:0], op)
		case <-s.closing:
			return
		}
		// Whom the last commit answered may be about to ask again. To let them
		// run first doubles the batch under load: half the syncs for the same
		// work. It costs nothing when nobody else wants to run.
	more:
		for yields := 2; len(batch) < maxBatch; {
			select {
			case op := <-s.queue:
				batch = append(batch, op)
			default:
				if yields == 0 {
					break more
				}
				yields--
				runtime.Gosched()
			}
		}
		s.commit(batch)
		clear(batch)
	}
}

// commit runs the operations in one transaction and answers each. A refusal
// changes nothing, so the others go on. An operation that fails takes its
// transaction with it; the others then run again without it.
func (s *Store) commit(batch []*operation) {
	ctx := context.Background() // a transaction is not torn by one caller
	for len(batch) > 0 {
		tx, err := s.begin(ctx)
		if err != nil {
			answer(batch, s.unavailable(err))
			return
		}
		w := &writes{store: s, tx: tx}
		results := make([]error, len(batch))
		failed := -1
		for i, op := range batch {
			if !op.state.CompareAndSwap(waiting, begun) && op.state.Load() == abandoned {
				continue
			}
			w.failure = nil
			results[i] = op.run(w)
			if w.failure != nil {
				results[i], failed = s.unavailable(w.failure), i
				break
			}
		}
		if failed < 0 {
			if err := tx.Commit(); err != nil {
				lost := s.unavailable(err)
				if resultCode(err) != codeFull && resultCode(err) != codeBusy {
					lost = fmt.Errorf("%w: %w", storage.ErrUnknown, explain(s.path, err))
				}
				answer(batch, lost)
				return
			}
			for i, op := range batch {
				op.done <- results[i]
			}
			return
		}
		tx.Rollback()
		batch[failed].done <- results[failed]
		batch = append(batch[:failed:failed], batch[failed+1:]...)
	}
}

// begin begins a transaction as soon as no other process writes. SQLite's own
// wait sleeps up to 100 milliseconds between two looks, and whoever writes all
// the time leaves no more than a moment between two transactions: an operator
// who blocks somebody would wait for seconds while a server is busy.
func (s *Store) begin(ctx context.Context) (*sql.Tx, error) {
	for began := time.Now(); ; {
		tx, err := s.writing.BeginTx(ctx, nil)
		if resultCode(err) != codeBusy || time.Since(began) >= s.patience {
			return tx, err
		}
	}
}

func answer(batch []*operation, err error) {
	for _, op := range batch {
		op.done <- err
	}
}

// writes is the transaction as an operation sees it. A failure of SQLite is
// noted; the operation's result does not matter then.
type writes struct {
	store   *Store
	tx      *sql.Tx
	failure error
}

// exec runs a prepared statement and returns how many rows it changed. The
// error is storage.ErrExists if a unique value is taken.
func (w *writes) exec(st statement, args ...any) (int64, error) {
	result, err := w.tx.Stmt(w.store.write[st]).Exec(args...)
	if taken(err) {
		return 0, storage.ErrExists
	}
	if err != nil {
		w.failure = err
		return 0, err
	}
	return result.RowsAffected()
}

// row reads one row by a prepared statement: storage.ErrNotFound if there is
// none.
func (w *writes) row(st statement, args []any, into ...any) error {
	err := w.tx.Stmt(w.store.write[st]).QueryRow(args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return storage.ErrNotFound
	}
	if err != nil {
		w.failure = err
	}
	return err
}

// rows reads all rows of a prepared statement; scan reads one.
func (w *writes) rows(st statement, args []any, scan func(*sql.Rows) error) error {
	rows, err := w.tx.Stmt(w.store.write[st]).Query(args...)
	if err == nil {
		err = each(rows, func() error { return scan(rows) })
	}
	if err != nil {
		w.failure = err
	}
	return err
}
