package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// AuditLine is one line of the audit log, linked to the one before it.
type AuditLine struct {
	Seq   uint64    `json:"seq"`   // 1, 2, 3, … without a gap
	Link  Hash      `json:"link"`  // see LinkAfter
	Until time.Time `json:"until"` // when nobody needs it any more; zero: never
	Body  []byte    `json:"body"`  // what happened, as package audit writes it
}

// AuditHead says where the log ends: at the line with that Seq and Link, which
// is kept until then. It is zero where there is no line.
type AuditHead struct {
	Seq   uint64
	Link  Hash
	Until time.Time
}

// Head is where the log ends if l is the last line of it.
func (l AuditLine) Head() AuditHead { return AuditHead{l.Seq, l.Link, l.Until} }

// Bounds of what is appended at once.
const (
	MaxAuditLines = 256
	MaxAuditBody  = 8 << 10 // bytes
)

// auditDomain begins what a link is the hash of, so that it is no hash of
// anything else.
const auditDomain = "solegate audit line 1\n"

// LinkAfter returns the link that l must have behind the line of before: the
// SHA-256 over the link and the Until of that, and Seq, Until and Body of l, so
// that no line can be altered, left out, put in or put elsewhere without
// another link in every line after it.
//
// That before.Until is in it is for the log's begin: the first line that is
// there can't be checked by itself, but the one behind it proves its Until, see
// [AuditChain].
func (l AuditLine) LinkAfter(before AuditHead) Hash {
	h := sha256.New()
	h.Write([]byte(auditDomain))
	h.Write(before.Link[:])
	for _, n := range []uint64{auditTime(before.Until), l.Seq, auditTime(l.Until), uint64(len(l.Body))} {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	h.Write(l.Body)
	return Hash(h.Sum(nil))
}

func auditTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

// AuditChain looks at the lines of a log one after the other, from the first
// that is there. The zero value is ready.
type AuditChain struct {
	// First is the first line, once there was one. Unless its Seq is 1, what
	// was before it was removed: by Sweep, and then its own Until is past; or by
	// somebody else. See [Audit].
	First AuditHead
	// Last is the last line.
	Last AuditHead
}

// Next returns nil if l is what was written behind the last line, or says what
// is wrong: lines that are missing, or were altered. What comes after it is
// then looked at on its own.
func (c *AuditChain) Next(l AuditLine) error {
	before := c.Last
	c.Last = l.Head()
	if c.First.Seq == 0 {
		c.First = l.Head()
		if l.Seq != 1 {
			return nil
		}
	}
	switch {
	case l.Seq <= before.Seq:
		return fmt.Errorf("line %d comes behind line %d", l.Seq, before.Seq)
	case l.Seq == before.Seq+2:
		return fmt.Errorf("line %d is missing", before.Seq+1)
	case l.Seq > before.Seq+1:
		return fmt.Errorf("lines %d to %d are missing", before.Seq+1, l.Seq-1)
	case l.Link != l.LinkAfter(before) && before.Seq == 0:
		return fmt.Errorf("line %d is not what was written: it was altered", l.Seq)
	case l.Link != l.LinkAfter(before):
		return fmt.Errorf("line %d is not what was written behind line %d: one of them was altered", l.Seq, before.Seq)
	case before.Seq > 0 && auditTime(l.Until)-1 < auditTime(before.Until)-1: // 0 is never: the highest
		return fmt.Errorf("line %d is kept for less long than line %d", l.Seq, before.Seq)
	}
	return nil
}

// FitsAudit returns an error, which is a defect of the caller, unless the lines
// follow on one another and on after, and are within the bounds.
func FitsAudit(after AuditHead, lines []AuditLine) error {
	if len(lines) > MaxAuditLines {
		return fmt.Errorf("%d audit lines: at most %d at once", len(lines), MaxAuditLines)
	}
	chain := AuditChain{First: after, Last: after}
	for i, l := range lines {
		if err := l.bounded(); err != nil {
			return err
		}
		if i == 0 && l.Seq > 1 && l.Seq == after.Seq+1 && after.Link == (Hash{}) && after.Seq > 0 {
			chain = AuditChain{First: l.Head(), Last: l.Head()}
			continue
		}
		if err := chain.Next(l); err != nil {
			return fmt.Errorf("audit lines don't follow on one another: %w", err)
		}
	}
	return nil
}

func (l AuditLine) bounded() error {
	if len(l.Body) > MaxAuditBody || len(l.Body) == 0 {
		return fmt.Errorf("audit line %d has %d bytes: 1 to %d expected", l.Seq, len(l.Body), MaxAuditBody)
	}
	return nil
}

// OrderedAudit is FitsAudit for lines that are copied: they need not fit, but
// have their order behind after.
func OrderedAudit(after AuditHead, lines []AuditLine) error {
	if len(lines) > MaxAuditLines {
		return fmt.Errorf("%d audit lines: at most %d at once", len(lines), MaxAuditLines)
	}
	for _, l := range lines {
		if l.Seq <= after.Seq {
			return fmt.Errorf("audit line %d comes behind line %d", l.Seq, after.Seq)
		}
		if err := l.bounded(); err != nil {
			return err
		}
		after = l.Head()
	}
	return nil
}

// Audit keeps the audit log: lines that are appended and never changed.
//
// Each is linked to the one before it by a hash, so who reads them from the
// begin sees what was altered or is missing, see [AuditChain]. Sweep removes
// lines from the begin: those behind which there is one that is past its Until,
// too, and never one that is behind a line that is still kept. So the first
// line of a log that Sweep has shortened is itself past its Until, which tells
// such a log from one whose begin somebody else removed.
type Audit interface {
	// AuditHead returns the head, zero when no line was ever written.
	AuditHead(ctx context.Context) (AuditHead, error)
	// AppendAudit appends the lines, all or none, behind the line that after
	// names by Seq and Link. ErrConflict when that is not the last one (any
	// more): read the head, link the lines anew. A log that is empty takes
	// them behind any after; its Link may be zero then, of a log that is copied
	// and whose begin is gone. Lines that don't fit ([FitsAudit]) are refused.
	//
	// After ErrUnknown the caller reads the lines behind after to see whether
	// they are there, so that none is there twice. They don't come later, once
	// others are behind after.
	AppendAudit(ctx context.Context, after AuditHead, lines []AuditLine) error
	// CopyAudit is AppendAudit for lines of another store, which come as they
	// are: what somebody altered there is no reason to lose the rest, and must
	// show here, too. Only their order counts ([OrderedAudit]).
	CopyAudit(ctx context.Context, after AuditHead, lines []AuditLine) error
	// AuditLines returns at most limit (1 to 1000) lines whose Seq is above
	// after, in their order.
	AuditLines(ctx context.Context, after uint64, limit int) ([]AuditLine, error)
}
