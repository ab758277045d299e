package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/storage"
)

const (
	sealPurpose = "audit log seals"
	sealDomain  = "solegate audit seal 1\n"
	sealEvery   = time.Minute
)

// seal vouches for all lines before its own.
type seal struct {
	// Link and Until are those of the line before, so that a seal can be
	// checked that is the first line which is there.
	Link  []byte    `json:"link"`
	Until time.Time `json:"until,omitzero"`
	// MAC is HMAC-SHA256 over those, the number of the line before, and the id,
	// the time and the Until of the seal's own line: that, too, because a seal may
	// be all that is left, and its Until is what says that the rest may be gone.
	MAC []byte `json:"mac"`
}

func macOf(key []byte, before storage.AuditHead, t text, until time.Time) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(sealDomain))
	nanos := func(at time.Time) uint64 {
		if at.IsZero() {
			return 0
		}
		return uint64(at.UnixNano())
	}
	for _, n := range []uint64{before.Seq, nanos(before.Until), uint64(t.At.UnixMicro()), nanos(until)} {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n)
		m.Write(b[:])
	}
	m.Write(before.Link[:])
	m.Write([]byte(t.ID))
	return m.Sum(nil)
}

// sealed returns t, which is kept until then, with a seal behind the line of
// before.
func (t text) sealed(key []byte, before storage.AuditHead, until time.Time) text {
	t.Seal = &seal{Link: before.Link[:], Until: before.Until, MAC: macOf(key, before, t, until)}
	return t
}

// check returns what is wrong with the seal of t, a line behind that of before
// that is kept until then. Without a key it only looks whether it belongs there.
func (s *seal) check(key []byte, before storage.AuditHead, t text, until time.Time) error {
	switch {
	case string(s.Link) != string(before.Link[:]) || !s.Until.Equal(before.Until):
		return errors.New("its seal is of another chain")
	case key != nil && !hmac.Equal(s.MAC, macOf(key, before, t, until)):
		return errors.New("its seal is not one of a server with this master key")
	}
	return nil
}

// Run does a server's part until ctx ends: it seals the log at the start, in
// every minute in which lines came, whoever wrote them, and at the end, and
// says how many lines were left out. Then it closes the log, see [Log.Close].
func (l *Log) Run(ctx context.Context) error {
	if l.config.Store == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	if l.key != nil {
		l.lookBack(ctx)
		l.seal("a server starts")
	}
	tick := time.NewTicker(sealEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.tellLeftOut()
			l.sealNew(ctx)
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			if err := l.Close(ending); err != nil {
				l.log.Error("lines of the audit log could not be kept; they are in this log", "error", err)
			}
			return ctx.Err()
		}
	}
}

// closeTimeout is how long Run tries to keep what is left at its end.
const closeTimeout = 10 * time.Second

func (l *Log) seal(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enqueue(&waiting{event: Event{What: whatSealed, Reason: reason}, at: l.config.Now(), seals: true})
}

// sealNew seals if the last line is none: this process's or another's.
func (l *Log) sealNew(ctx context.Context) {
	if l.key == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sealEvery)
	defer cancel()
	head, err := l.config.Store.AuditHead(ctx)
	if err != nil || head.Seq == 0 || head.Seq == l.sealed.Load() {
		return // the writer tells when the store is away
	}
	l.lookAtBegin(ctx)
	last, err := l.config.Store.AuditLines(ctx, head.Seq-1, 1)
	if err != nil || len(last) == 0 {
		return
	}
	if t, err := decode(last[0]); err == nil && t.Seal != nil {
		l.sealed.Store(last[0].Seq)
		return
	}
	l.seal("")
}

// tellLeftOut writes how many lines were left out.
func (l *Log) tellLeftOut() {
	if n := l.limits.take(); n > 0 {
		l.Record(context.Background(), Event{What: whatLeftOut, Count: n, Reason: "there were too many; the structured log has them"})
	}
}

// lookedBack is how many lines a server looks at when it starts: usually the
// last seal is among the last few. Verify looks at all of them.
const lookedBack = 2000

// lookBack looks, before this process seals the log, whether its end is what
// was sealed before.
func (l *Log) lookBack(ctx context.Context) {
	head, err := l.config.Store.AuditHead(ctx)
	v := verifier{key: l.key, now: l.config.Now()}
	for after := max(head.Seq, lookedBack) - lookedBack; err == nil && after < head.Seq; {
		var lines []storage.AuditLine
		if lines, err = l.config.Store.AuditLines(ctx, after, page); len(lines) == 0 {
			break
		}
		for _, line := range lines {
			v.next(line)
		}
		after = lines[len(lines)-1].Seq
	}
	if err != nil {
		return // the writer tells when the store is away
	}
	if v.found > 0 {
		l.broken(fmt.Sprintf("%s (%d problems in its last %d lines)", v.report.Problems[0], v.found, v.report.Lines))
	}
	l.lookAtBegin(ctx)
}

// lookAtBegin looks whether the log begins where it may, and says once if not:
// behind lines that were all taken away the next is appended as ever.
func (l *Log) lookAtBegin(ctx context.Context) {
	lines, err := l.config.Store.AuditLines(ctx, 0, 1)
	if err != nil || len(lines) == 0 || lines[0].Seq == 1 || lines[0].Seq == l.begin {
		return
	}
	// Another server's clock may have said that the time was up.
	if first := lines[0]; first.Until.IsZero() || l.config.Now().Add(clocksApart).Before(first.Until) {
		l.begin = first.Seq
		l.broken(fmt.Sprintf("the log begins with line %d, and the lines before it were not yet to be removed", first.Seq))
	}
}

// broken raises the alarm, in both logs.
func (l *Log) broken(reason string) {
	l.log.Error("the audit log in the store is not what it was: somebody altered it, or it was restored from a backup; see: solegate audit verify", "reason", reason)
	l.Record(context.Background(), Event{What: whatBroken, Reason: reason})
}
