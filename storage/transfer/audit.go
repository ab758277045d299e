package transfer

import (
	"context"
	"errors"

	"github.com/solegate/solegate/storage"
)

// eachAudit visits the lines of the audit log that are there when it begins, in
// their order, as many at a time as are appended at once, and behind which line
// they are. Those past their time are visited, too: what is behind them is linked
// to them.
func eachAudit(ctx context.Context, s storage.Store, visit func(storage.AuditHead, []storage.AuditLine) error) error {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	for after := (storage.AuditHead{}); after.Seq < head.Seq; {
		lines, err := s.AuditLines(ctx, after.Seq, storage.MaxAuditLines)
		if err != nil || len(lines) == 0 {
			return err
		}
		for len(lines) > 0 && lines[len(lines)-1].Seq > head.Seq {
			lines = lines[:len(lines)-1]
		}
		if len(lines) == 0 {
			return nil
		}
		if err := visit(after, lines); err != nil {
			return err
		}
		after = lines[len(lines)-1].Head()
	}
	return nil
}

// putAudit appends what of the lines is not in s, as they are. They are behind
// the line of after, or among them is the last one of s: another log is not
// mixed with theirs.
func putAudit(ctx context.Context, s storage.Store, after storage.AuditHead, lines []storage.AuditLine) error {
	head, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	for len(lines) > 0 && lines[0].Seq <= head.Seq {
		after, lines = lines[0].Head(), lines[1:] // get looks whether they are the same
	}
	if len(lines) == 0 {
		return storage.ErrExists
	}
	if head.Seq != after.Seq || head.Link != after.Link {
		return errors.New("they don't follow on the audit log of the target: that is another one")
	}
	return s.CopyAudit(ctx, head, lines)
}

// getAudit reads the lines of s that have the numbers of these.
func getAudit(ctx context.Context, s storage.Store, lines []storage.AuditLine) ([]storage.AuditLine, error) {
	found, err := s.AuditLines(ctx, lines[0].Seq-1, len(lines))
	if err == nil && len(found) == 0 {
		err = storage.ErrNotFound
	}
	return found, err
}
