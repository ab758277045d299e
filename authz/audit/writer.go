package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/storage"
)

const (
	// maxQueue is how many lines wait at most while the store can't be written,
	// but for those of callers who wait themselves.
	maxQueue = 4096
	// maxWaiting is how many callers may wait besides.
	maxWaiting = 1024
	// oneAppend is how long it may take to append lines, also when others are
	// faster again and again.
	oneAppend = 10 * time.Second
	// After it has appended, a process leaves the others a turn, three times as
	// long as that took: whoever was last knows the head and would always win.
	leastTurn, longestTurn = time.Millisecond, 20 * time.Millisecond
)

// waiting is a line that is not kept yet.
type waiting struct {
	event Event
	at    time.Time
	id    string
	seals bool
	done  chan error // of a caller who waits for it; nil if nobody does (any more)
}

// errClosed answers who comes after Close.
var errClosed = fmt.Errorf("%w: the audit log is closed", storage.ErrUnavailable)

// enqueue puts a line behind the others; l.mu is held.
func (l *Log) enqueue(w *waiting) {
	if l.closed {
		if w.done != nil {
			w.done <- errClosed
		}
		return
	}
	l.put(w)
	if l.running == nil {
		l.running = make(chan struct{})
		go l.run(l.running)
	}
	if w.done != nil || len(l.queue) >= storage.MaxAuditLines {
		l.hurry()
	}
}

func (l *Log) put(w *waiting) {
	l.number++
	w.id = fmt.Sprintf("%s%x", l.process, l.number)
	l.queue = append(l.queue, w)
}

// hurry ends the pause of the writer.
func (l *Log) hurry() {
	select {
	case l.urgent <- struct{}{}:
	default:
	}
}

// await queues a line and waits for it.
func (l *Log) await(ctx context.Context, w *waiting) error {
	l.mu.Lock()
	if len(l.queue) >= maxQueue+maxWaiting {
		l.lost++
		l.mu.Unlock()
		return fmt.Errorf("%w: %d lines wait for the store already", storage.ErrUnavailable, maxQueue+maxWaiting)
	}
	done := w.done // the writer's from now on
	l.enqueue(w)
	l.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", storage.ErrUnknown, ctx.Err())
	}
}

// run writes what waits, until nothing does. It is the only one that writes.
func (l *Log) run(running chan struct{}) {
	defer close(running)
	failures := 0
	for {
		l.pause(failures)
		l.yield()
		err := l.append()
		if err != nil {
			if failures++; failures == 1 {
				l.config.Log.Error("the audit log can't be written; its lines wait, and are in this log", "error", err)
			}
		} else if failures > 0 {
			failures = 0
			l.config.Log.Info("the audit log can be written again")
		}
		l.mu.Lock()
		if err != nil {
			for _, w := range l.queue {
				if w.done != nil {
					w.done <- err
					w.done = nil
				}
			}
		}
		if len(l.queue) == 0 && l.lost > 0 {
			l.put(&waiting{event: Event{What: whatLost, Count: l.lost, Reason: "the store could not be written, and too many waited; the structured log has them"}, at: l.config.Now()})
			l.lost = 0
		}
		if len(l.queue) == 0 || l.ctx.Err() != nil {
			l.running = nil
			l.mu.Unlock()
			return
		}
		if len(l.queue) >= storage.MaxAuditLines && err == nil || slices.ContainsFunc(l.queue, func(w *waiting) bool { return w.done != nil }) {
			l.hurry()
		}
		l.mu.Unlock()
	}
}

// pause waits a moment for more lines, or longer after failures; not when
// somebody waits for the last one.
func (l *Log) pause(failures int) {
	d := l.delay
	if failures > 0 {
		d = min(l.delay<<min(failures, 10), l.patience)
		d = d/2 + rand.N(d/2+1)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.urgent:
	case <-l.ctx.Done():
	}
}

// yield waits until others had their turn.
func (l *Log) yield() {
	left := l.turn - time.Since(l.appended)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// append appends the first lines of the queue, and takes them out of it.
func (l *Log) append() error {
	ctx, cancel := context.WithTimeout(l.ctx, oneAppend)
	defer cancel()
	for {
		batch := l.first()
		if len(batch) == 0 {
			return nil
		}
		err := l.find(ctx)
		if err == nil {
			lines := l.link(batch)
			began := time.Now()
			if err = l.config.Store.AppendAudit(ctx, l.head, lines); err == nil {
				l.head = lines[len(lines)-1].Head()
				l.written(batch, lines)
				l.appended = time.Now()
				l.turn = min(max(leastTurn, 3*l.appended.Sub(began)), longestTurn)
				return nil
			}
		}
		// Somebody else's lines came between: behind which are ours now? Or it
		// may have happened.
		l.unsure = l.unsure || errors.Is(err, storage.ErrUnknown)
		switch conflict := errors.Is(err, storage.ErrConflict); {
		case conflict && ctx.Err() != nil:
			return fmt.Errorf("%w: others were always faster, for %s", storage.ErrUnavailable, oneAppend) // nobody takes it for a conflict of theirs
		case !conflict && (!errors.Is(err, storage.ErrUnknown) || ctx.Err() != nil):
			return err
		}
		if err := l.catchUp(ctx); err != nil {
			return err
		}
	}
}

// first returns the lines that are next.
func (l *Log) first() []*waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*waiting(nil), l.queue[:min(len(l.queue), storage.MaxAuditLines)]...)
}

// find reads the head if this process does not know it.
func (l *Log) find(ctx context.Context) error {
	if l.known {
		if l.unsure {
			return l.catchUp(ctx)
		}
		return nil
	}
	head, err := l.config.Store.AuditHead(ctx)
	if err == nil {
		l.head, l.known = head, true
	}
	return err
}

// link makes lines of a batch, behind the head.
func (l *Log) link(batch []*waiting) []storage.AuditLine {
	now := l.config.Now()
	before := l.head
	lines := make([]storage.AuditLine, len(batch))
	for i, w := range batch {
		t := text{ID: w.id, At: w.at.UTC().Truncate(time.Microsecond), Event: w.event}
		if late := now.Sub(w.at); late > time.Second {
			t.Late = late.Milliseconds()
		}
		line := storage.AuditLine{Seq: before.Seq + 1, Until: until(before, now, l.config.Keep)}
		if w.seals {
			t = t.sealed(l.key, before, line.Until)
		}
		line.Body = t.encode()
		line.Link = line.LinkAfter(before)
		lines[i], before = line, line.Head()
	}
	return lines
}

// until is when a line behind another may go: not before that.
func until(before storage.AuditHead, now time.Time, keep time.Duration) time.Time {
	at := now.Add(keep)
	switch {
	case keep == 0 || before.Seq > 0 && before.Until.IsZero():
		return time.Time{}
	case at.Before(before.Until):
		return before.Until
	}
	return at
}

// written takes lines out of the queue that are kept, and tells who waits. The
// seals are told to the structured log: whoever can alter the store should not
// be able to alter that, too.
func (l *Log) written(batch []*waiting, lines []storage.AuditLine) {
	l.mu.Lock()
	l.queue = l.queue[len(batch):]
	for _, w := range batch {
		if w.done != nil {
			w.done <- nil
			w.done = nil
		}
	}
	l.mu.Unlock()
	for i, w := range batch {
		if w.seals {
			l.sealed.Store(lines[i].Seq)
			l.log.Info(whatSealed, "head", Head{lines[i].Seq, lines[i].Link}.String())
		}
	}
}

// catchUp finds the head anew, behind the one that was known, and with it those
// of this process's lines that are there although that was not known.
func (l *Log) catchUp(ctx context.Context) error {
	ours := map[string]bool{}
	for at, first := l.head, true; ; first = false {
		after := at.Seq
		if first && after > 0 {
			after-- // the line itself comes with them
		}
		lines, err := l.config.Store.AuditLines(ctx, after, page)
		if err != nil {
			return err
		}
		if first && at.Seq > 0 {
			if len(lines) == 0 || lines[0].Seq != at.Seq || lines[0].Link != at.Link {
				return l.lostHead(ctx, lines)
			}
			lines = lines[1:]
		}
		for _, line := range lines {
			at = line.Head()
			if t, err := decode(line); err == nil && strings.HasPrefix(t.ID, l.process) {
				ours[t.ID] = true
			}
		}
		l.head = at
		if len(lines) < page-1 {
			break
		}
		if !l.unsure { // nothing of ours is there, however many came
			l.known = false
			return l.find(ctx)
		}
	}
	l.unsure = false
	l.found(ours)
	return nil
}

// lostHead deals with the line that was last, and is not there any more.
func (l *Log) lostHead(ctx context.Context, lines []storage.AuditLine) error {
	was, until := Head{l.head.Seq, l.head.Link}, l.head.Until
	l.known = false
	if err := l.find(ctx); err != nil {
		l.known = true // it was; ask again
		return err
	}
	l.unsure = false
	// It may have been removed because its time was up: its own, which nobody
	// but this process can vouch for, not what a line says that is there now.
	if len(lines) > 0 && lines[0].Seq > was.Seq && !until.IsZero() && !l.config.Now().Before(until) {
		return nil
	}
	l.broken(fmt.Sprintf("line %s was there and is not any more; the last one is line %d", was, l.head.Seq))
	return nil
}

// found takes those lines out of the queue.
func (l *Log) found(ids map[string]bool) {
	if len(ids) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.queue[:0]
	for _, w := range l.queue {
		if !ids[w.id] {
			left = append(left, w)
		} else if w.done != nil {
			w.done <- nil
			w.done = nil
		}
	}
	clear(l.queue[len(left):])
	l.queue = left
}

// Close keeps what waits, behind it a seal if this process seals, and ends the
// log: later events are in the structured log alone. The error says how many
// lines could not be kept until ctx ended.
func (l *Log) Close(ctx context.Context) error {
	if l.config.Store == nil {
		return nil
	}
	l.tellLeftOut()
	l.mu.Lock()
	if l.key != nil && !l.closed {
		l.enqueue(&waiting{event: Event{What: whatSealed, Reason: "a server stops"}, at: l.config.Now(), seals: true})
	}
	l.closed = true
	running := l.running
	l.hurry()
	l.mu.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			l.stop()
			<-running
		}
	}
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.queue) + l.lost; n > 0 {
		return fmt.Errorf("%w: %d lines of the audit log could not be kept", storage.ErrUnavailable, n)
	}
	return nil
}
