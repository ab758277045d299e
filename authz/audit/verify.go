package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/storage"
)

// Verification is what Verify checks with.
type Verification struct {
	// Secret is that of the key ring; with nil the seals are not checked.
	Secret func(purpose string) [32]byte
	// Heads are those that were noted elsewhere, such as from the structured
	// log: each must still be in the log.
	Heads []Head
	// Now is the clock's time, for what is past its time.
	Now time.Time
}

// Report is what Verify found.
type Report struct {
	Lines uint64 `json:"lines"`
	First uint64 `json:"first"` // the number of the first line that is there
	Last  uint64 `json:"last"`
	// Head is the last line's, to be noted elsewhere.
	Head string `json:"head,omitempty"`
	// Seals is how many there are, and Sealed up to which line they vouch;
	// nothing of it is known without the master key.
	Seals         uint64 `json:"seals"`
	Sealed        uint64 `json:"sealed"`
	SealsVerified bool   `json:"seals_verified"`
	// Problems say what is not as it was written.
	Problems []string `json:"problems"`
	// Remarks say what can't be known, or should be looked at.
	Remarks []string `json:"remarks"`
}

// maxProblems bounds the lists of a Report.
const maxProblems = 100

// sealedLate is how much later than a line a seal may come, before it is
// remarked that nobody vouched for the line meanwhile.
const sealedLate = 10 * time.Minute

// Verify reads the whole log. The error is the store's; what is wrong with the
// log is in the report.
func Verify(ctx context.Context, s storage.Audit, how Verification) (Report, error) {
	v := newVerifier(how)
	for {
		lines, err := s.AuditLines(ctx, v.chain.Last.Seq, page)
		if err != nil {
			return v.report, err
		}
		if last := v.chain.Last.Seq; last > 0 && len(lines) > 0 && lines[0].Seq > last+1 {
			// A server that removes what is past its time may have been faster.
			first, err := s.AuditLines(ctx, 0, 1)
			if err != nil {
				return v.report, err
			}
			if len(first) > 0 && first[0].Seq > last {
				v = newVerifier(how)
				continue
			}
		}
		for _, l := range lines {
			v.next(l)
		}
		if len(lines) < page {
			break
		}
	}
	v.end()
	return v.report, nil
}

func newVerifier(how Verification) *verifier {
	v := &verifier{now: how.Now, heads: map[uint64][]Head{}, all: true}
	if how.Secret != nil {
		key := how.Secret(sealPurpose)
		v.key = key[:]
	}
	for _, h := range how.Heads {
		v.heads[h.Seq] = append(v.heads[h.Seq], h)
	}
	return v
}

// verifier looks at one line after the other.
type verifier struct {
	key    []byte // of the seals; nil: it is not known
	now    time.Time
	chain  storage.AuditChain
	heads  map[uint64][]Head // that are not seen yet
	report Report
	found  int // problems
	served bool
	all    bool // what servers found before counts, too

	// Of the lines behind the last seal:
	unsealed uint64    // the first
	oldest   time.Time // when the first of them was kept
	newest   time.Time
}

func (v *verifier) problem(format string, args ...any) {
	if v.found++; v.found <= maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *verifier) remark(format string, args ...any) {
	if len(v.report.Remarks) < maxProblems {
		v.report.Remarks = append(v.report.Remarks, fmt.Sprintf(format, args...))
	}
}

func (v *verifier) next(l storage.AuditLine) {
	before := v.chain.Last
	if err := v.chain.Next(l); err != nil {
		v.problem("%v", err)
	}
	v.report.Lines++
	if slices.ContainsFunc(v.heads[l.Seq], func(h Head) bool { return h.Link != l.Link }) {
		v.problem("line %d has another link than the head that was noted: the log was written anew, up to there", l.Seq)
	}
	delete(v.heads, l.Seq)
	t, err := decode(l)
	if err != nil {
		v.problem("%v", err)
		return
	}
	if v.all && t.What == whatBroken {
		v.problem("line %d: a server found then that the log was not what it was: %q", l.Seq, t.Reason)
	}
	if t.Seal == nil {
		kept := t.At.Add(time.Duration(t.Late) * time.Millisecond)
		if v.unsealed == 0 {
			v.unsealed, v.oldest = l.Seq, kept
		}
		v.newest = kept
		v.served = v.served || !strings.HasPrefix(t.Operator, "cli:")
		return
	}
	v.report.Seals++
	if before.Seq == 0 || before.Seq+1 != l.Seq {
		// What was before it is gone, or was found missing; the seal says where
		// it belongs, and with the key that is as good.
		if before = (storage.AuditHead{Seq: l.Seq - 1, Until: t.Seal.Until}); len(t.Seal.Link) == len(before.Link) {
			before.Link = storage.Hash(t.Seal.Link)
		}
		if l.Link != l.LinkAfter(before) {
			v.problem("line %d, a seal, was altered", l.Seq)
		}
	}
	if err := t.Seal.check(v.key, before, t, l.Until); err != nil {
		v.problem("line %d: %v", l.Seq, err)
		return
	}
	if v.unsealed > 0 && t.At.Sub(v.oldest) > sealedLate {
		v.remark("lines %d to %d, of %s to %s, were sealed only at %s: until then whoever could write to the store could alter them", v.unsealed, l.Seq-1, stamp(v.oldest), stamp(v.newest), stamp(t.At))
	}
	v.unsealed = 0
	v.report.Sealed = l.Seq
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// end completes the report.
func (v *verifier) end() {
	r := &v.report
	first, last := v.chain.First, v.chain.Last
	r.First, r.Last, r.SealsVerified = first.Seq, last.Seq, v.key != nil
	if last.Seq > 0 {
		r.Head = Head{last.Seq, last.Link}.String()
	}
	switch {
	case first.Seq <= 1:
	case first.Until.IsZero() || v.now.Before(first.Until):
		v.problem("the log begins with line %d, and the lines before it were not yet to be removed: they are missing", first.Seq)
	default:
		v.remark("the lines before line %d were removed when their time was up; line %d goes next, and of it nothing is proven but that", first.Seq, first.Seq)
	}
	for seq, list := range v.heads {
		switch {
		case seq > last.Seq && last.Seq == 0:
			v.problem("line %d was noted as the head, and the log is empty", seq)
		case seq > last.Seq:
			v.problem("line %d was noted as the head, and the log ends with line %d: its end was cut off, or the store was restored from a backup", seq, last.Seq)
		case seq < first.Seq:
			v.remark("line %d was noted as the head, and is not there any more: whether it was %s can't be said", seq, list[0])
		default:
			v.problem("line %d was noted as the head, and is missing", seq)
		}
	}
	switch {
	case v.key == nil && r.Lines > 0:
		v.remark("the seals were not checked, for want of the master key: who can write to the store may have written all of it anew")
	case v.key != nil && r.Seals == 0 && (v.served || first.Seq > 1): // only a server removes what is past its time, and it seals before
		v.problem("there is no seal in the log, although a server wrote it")
	case v.unsealed > 0:
		v.remark("lines %d to %d are not sealed yet", v.unsealed, last.Seq)
	}
	if v.found > maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf("and %d more", v.found-maxProblems))
	}
	if r.Problems == nil {
		r.Problems = []string{}
	}
	if r.Remarks == nil {
		r.Remarks = []string{}
	}
}
