package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// A line of the audit log is an entry of the stream whose identifier is its
// number: u until in nanoseconds, l the link, b the body.
const auditFields = 3

func decodeAudit(m redis.XMessage) (l storage.AuditLine, err error) {
	text := func(name string) string { v, _ := m.Values[name].(string); return v }
	seq, rest, _ := strings.Cut(m.ID, "-")
	until, untilErr := strconv.ParseInt(text("u"), 10, 64)
	if l.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || rest != "0" || untilErr != nil || len(text("l")) != len(l.Link) || len(m.Values) != auditFields {
		return l, damaged("line of the audit log, "+m.ID+",", record.ErrDamaged)
	}
	l.Until, l.Link, l.Body = record.Instant(until), storage.Hash([]byte(text("l"))), []byte(text("b"))
	return l, nil
}

// AuditHead implements [storage.Audit].
func (s *Store) AuditHead(ctx context.Context) (storage.AuditHead, error) {
	var last *redis.XMessageSliceCmd
	if err := s.read(ctx, func(p redis.Pipeliner) { last = p.XRevRangeN(ctx, s.auditKey(), "+", "-", 1) }); err != nil {
		return storage.AuditHead{}, err
	}
	for _, m := range last.Val() {
		l, err := decodeAudit(m)
		return l.Head(), err
	}
	return storage.AuditHead{}, nil
}

// AppendAudit implements [storage.Audit]. It does not wait for the disk: each
// of a log's lines waits for the one before, so all of them would wait for one
// turn of it after the other.
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
	if len(lines) == 0 {
		return s.begin(ctx)
	}
	args := make([]any, 0, 3+4*len(lines))
	args = append(args, strconv.FormatUint(after.Seq, 10), string(after.Link[:]), "")
	for _, l := range lines {
		args = append(args, strconv.FormatUint(l.Seq, 10), record.Nanos(l.Until), string(l.Link[:]), l.Body)
	}
	return s.do(ctx, write{script: auditScript, keys: []string{s.auditKey()}, args: args, repeat: marked, again: 2, lasting: true})
}

// AuditLines implements [storage.Audit].
func (s *Store) AuditLines(ctx context.Context, after uint64, limit int) ([]storage.AuditLine, error) {
	if after+1 == 0 {
		return nil, nil
	}
	var entries *redis.XMessageSliceCmd
	if err := s.read(ctx, func(p redis.Pipeliner) {
		entries = p.XRangeN(ctx, s.auditKey(), strconv.FormatUint(after+1, 10), "+", int64(limit))
	}); err != nil {
		return nil, err
	}
	var list []storage.AuditLine
	for _, m := range entries.Val() {
		l, err := decodeAudit(m)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

// checkAudit looks at the whole log.
func checkAudit(ctx context.Context, node *redis.Client, key string, say func(string, ...any)) error {
	const page = 500
	var chain storage.AuditChain
	for from := "-"; ; {
		entries, err := node.XRangeN(ctx, key, from, "+", page).Result()
		if err != nil {
			return err
		}
		for _, m := range entries {
			from = "(" + m.ID
			l, err := decodeAudit(m)
			if err == nil {
				err = chain.Next(l)
			}
			if err != nil {
				say("%v", err)
			}
		}
		if len(entries) < page {
			return nil
		}
	}
}

// sweepAudit removes what is past its time.
func (s *Store) sweepAudit(ctx context.Context, now int64, limit int) (int, error) {
	reply, err := s.run(ctx, write{script: sweepAuditScript, keys: []string{s.auditKey()}, args: []any{now, limit}, repeat: harmless})
	if err != nil {
		return 0, err
	}
	n, ok := reply.(int64)
	if !ok {
		return 0, fmt.Errorf("%w: script sweepaudit answered %v", storage.ErrUnavailable, reply)
	}
	return int(n), nil
}
