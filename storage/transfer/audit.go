package transfer

import (
	"context"
	"fmt"

	"github.com/solegate/solegate/storage"
)

// eachAudit visits the lines of the audit log that are there when it begins, in
// their order, as many at a time as are appended at once. Those past their time
// are visited, too: what is behind them is linked to them.
func eachAudit(ctx context.Context, s storage.Store, visit func([]storage.AuditLine) error) error {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	for after := uint64(0); after < head.Seq; {
		lines, err := s.AuditLines(ctx, after, storage.MaxAuditLines)
		if err != nil || len(lines) == 0 {
			return err
		}
		for len(lines) > 0 && lines[len(lines)-1].Seq > head.Seq {
			lines = lines[:len(lines)-1]
		}
		if len(lines) == 0 {
			return nil
		}
		if err := visit(lines); err != nil {
			return err
		}
		after = lines[len(lines)-1].Seq
	}
	return nil
}

// putAudit appends what of the lines is not in s, with the links that they have.
func putAudit(ctx context.Context, s storage.Store, lines []storage.AuditLine) error {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	if head.Seq == 0 {
		return s.AppendAudit(ctx, storage.AuditHead{Seq: lines[0].Seq - 1}, lines)
	}
	for len(lines) > 0 && lines[0].Seq <= head.Seq {
		lines = lines[1:] // get looks whether they are the same
	}
	if len(lines) == 0 {
		return storage.ErrExists
	}
	if err := s.AppendAudit(ctx, head, lines); err != nil {
		return fmt.Errorf("they don't follow on the audit log of the target: %w", err)
	}
	return nil
}

// getAudit reads the lines of s that have the numbers of these.
func getAudit(ctx context.Context, s storage.Store, lines []storage.AuditLine) ([]storage.AuditLine, error) {
	found, err := s.AuditLines(ctx, lines[0].Seq-1, len(lines))
	if err == nil && len(found) == 0 {
		err = storage.ErrNotFound
	}
	return found, err
}
