package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// auditRow is a line as its columns are scanned.
type auditRow struct {
	storage.AuditLine
	until int64
	link  []byte
}

func (r *auditRow) into() []any { return []any{&r.Seq, &r.until, &r.link, &r.Body} }

// read returns the line. A link of another length is damage: it is no link.
func (r *auditRow) read() storage.AuditLine {
	l := r.AuditLine
	l.Until = record.Instant(r.until)
	if len(r.link) == len(l.Link) {
		l.Link = storage.Hash(r.link)
	}
	return l
}

// AuditHead implements [storage.Audit].
func (s *Store) AuditHead(ctx context.Context) (storage.AuditHead, error) {
	var r auditRow
	err := s.row(ctx, stmtAuditLast, nil, r.into()...)
	if errors.Is(err, storage.ErrNotFound) {
		return storage.AuditHead{}, nil
	}
	return r.read().Head(), err
}

// AppendAudit implements [storage.Audit].
func (s *Store) AppendAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	if err := storage.FitsAudit(after, lines); err != nil {
		return err
	}
	return s.appendAudit(ctx, after, lines)
}

// CopyAudit implements [storage.Audit].
func (s *Store) CopyAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	if err := storage.OrderedAudit(after, lines); err != nil {
		return err
	}
	return s.appendAudit(ctx, after, lines)
}

func (s *Store) appendAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	return s.do(ctx, func(w *writes) error {
		var last auditRow
		err := w.row(stmtAuditLast, nil, last.into()...)
		switch head := last.read().Head(); {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return err
		case head.Seq != after.Seq || head.Link != after.Link:
			return storage.ErrConflict
		}
		for _, l := range lines {
			if _, err := w.exec(stmtAppendAudit, l.Seq, record.Nanos(l.Until), l.Link[:], l.Body); err != nil {
				return err
			}
		}
		return nil
	})
}

// AuditLines implements [storage.Audit].
func (s *Store) AuditLines(ctx context.Context, after uint64, limit int) ([]storage.AuditLine, error) {
	var list []storage.AuditLine
	if int64(after) < 0 {
		return nil, nil // no column holds more
	}
	err := s.rows(ctx, stmtAuditLines, []any{int64(after), limit}, func(rows *sql.Rows) error {
		var r auditRow
		err := rows.Scan(r.into()...)
		list = append(list, r.read())
		return err
	})
	return list, err
}

// checkAudit reads the audit log from its begin. No read is open between pages:
// it would hold up checkpoints.
func (s *Store) checkAudit(ctx context.Context, problem func(string)) error {
	const page = 500
	var chain storage.AuditChain
	for {
		lines, err := s.AuditLines(ctx, chain.Last.Seq, page)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if err := chain.Next(l); err != nil {
				problem("audit log: " + err.Error())
			}
		}
		if len(lines) < page {
			return nil
		}
	}
}
