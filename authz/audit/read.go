package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// page is how many lines are read at once.
const page = 500

// Query says which lines: those that have all that is not zero here.
type Query struct {
	User           storage.UserID
	Client         clients.ID
	Session        storage.SessionID
	Grant          storage.GrantID
	ResourceServer clients.ID
	What           string
	// Since and Until are when it happened: from Since on, and before Until.
	Since, Until time.Time
	// Limit is how many, of the newest: 100 if zero.
	Limit int
	// Before asks for lines whose Seq is below it: to go on backwards, that of
	// the first line which was read. 0: from the end.
	Before uint64
}

// Match reports whether the query asks for a line.
func (q Query) Match(l Line) bool {
	return (q.User == "" || q.User == l.User) && (q.Client == "" || q.Client == l.Client) && (q.Session == "" || q.Session == l.Session) &&
		(q.Grant == "" || q.Grant == l.Grant) && (q.ResourceServer == "" || q.ResourceServer == l.ResourceServer) && (q.What == "" || q.What == l.What) &&
		(q.Since.IsZero() || !l.At.Before(q.Since)) && (q.Until.IsZero() || l.At.Before(q.Until))
}

// clocksApart is how far the clocks of servers are apart at most.
const clocksApart = 10 * time.Minute

// Search returns the newest lines that match, the newest last. It reads from
// the end backwards, and so no more than there is since q.Since.
func Search(ctx context.Context, s storage.Audit, q Query) ([]Line, error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	first, err := s.AuditLines(ctx, 0, 1)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	head, err := s.AuditHead(ctx)
	if err != nil {
		return nil, err
	}
	var found []Line
	end := head.Seq
	if q.Before > 0 {
		end = min(end, q.Before-1)
	}
	for end >= first[0].Seq && end > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		after := max(end, page) - page
		lines, err := s.AuditLines(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, stored := range slices.Backward(lines) {
			if stored.Seq > end {
				continue
			}
			l := read(stored)
			if q.Match(l) {
				found = append(found, l)
			}
			// A line is kept after it happened, at times long after; what was
			// kept before this one happened before, but for the clocks.
			if len(found) == q.Limit || !q.Since.IsZero() && !l.At.IsZero() && l.kept().Before(q.Since.Add(-clocksApart)) {
				slices.Reverse(found)
				return found, nil
			}
		}
		end = after
	}
	slices.Reverse(found)
	return found, nil
}

// Kept returns how long the last line of the log is kept, 0 for ever, or what it
// is told if there is none: for a command that does not know what the servers were
// told. Its line would otherwise keep all lines behind it for as long as itself.
func Kept(ctx context.Context, s storage.Audit, without time.Duration) (time.Duration, error) {
	head, err := s.AuditHead(ctx)
	if err != nil || head.Seq == 0 {
		return without, err
	}
	lines, err := s.AuditLines(ctx, head.Seq-1, 1)
	if err != nil || len(lines) == 0 {
		return without, err
	}
	l := read(lines[0])
	switch {
	case lines[0].Until.IsZero():
		return 0, nil
	case l.At.IsZero():
		return without, nil
	}
	return max(lines[0].Until.Sub(l.kept()).Round(time.Second), time.Second), nil
}

// ErrWentBack says that lines which were there are gone from the end of the log.
var ErrWentBack = errors.New("the audit log ends before what was read of it: it was cut off, or the store was restored from a backup; see: solegate audit verify")

// followEvery is how often Follow looks for new lines.
const followEvery = 250 * time.Millisecond

// Follow calls visit for every line behind the line after that matches (Limit and
// Before mean nothing here), those that are there and then those that come,
// whoever writes them, until ctx ends or visit returns an error; it returns that,
// an error of the store, or ErrWentBack. Last is the line up to which it got, to
// go on from.
func Follow(ctx context.Context, s storage.Audit, after uint64, q Query, visit func(Line) error) (last uint64, err error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		lines, err := s.AuditLines(ctx, after, page)
		if err != nil {
			return after, err
		}
		for _, stored := range lines {
			if l := read(stored); q.Match(l) {
				if err := visit(l); err != nil {
					return after, err
				}
			}
			after = stored.Seq
		}
		if len(lines) == page {
			continue
		}
		if len(lines) == 0 {
			head, err := s.AuditHead(ctx)
			if err == nil && head.Seq < after {
				err = fmt.Errorf("line %d was read, the last one is line %d: %w", after, head.Seq, ErrWentBack)
			}
			if err != nil {
				return after, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return after, ctx.Err()
		}
	}
}
