package audit

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// TestTooManyWait: whoever waits is bounded as well, and told so.
func TestTooManyWait(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	l := w.open(storagetest.WithFaults(w.store, func(string) storagetest.Outcome { <-hang; return storagetest.Outcome{} }), false)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range maxQueue {
		l.Record(t.Context(), Event{What: "a"})
	}
	for range maxWaiting {
		if err := l.Write(gone, Event{What: "b"}); !errors.Is(err, storage.ErrUnknown) {
			t.Fatal(err)
		}
	}
	if err := l.Write(t.Context(), Event{What: "c"}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("one too many: %v", err)
	}
	close(hang)
	w.close(l)
	count := map[string]int{}
	for _, line := range w.lines() {
		count[line.What]++
		if line.What == whatLost && line.Count != 1 {
			t.Errorf("%d are said to be lost", line.Count)
		}
	}
	if count["a"] != maxQueue || count["b"] != maxWaiting || count["c"] != 0 || count[whatLost] != 1 {
		t.Errorf("there are %v", count)
	}
}

// crowded is a store in which the answer to the first append is lost, and before
// that is known many others have appended.
type crowded struct {
	storage.Audit
	others *Log
	n      int
	done   bool
}

func (c *crowded) AppendAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	err := c.Audit.AppendAudit(ctx, after, lines)
	if c.done {
		return err
	}
	c.done = true
	for n := range c.n {
		c.others.Record(ctx, Event{What: fmt.Sprint("other ", n)})
	}
	return errors.Join(storage.ErrUnknown, err, c.others.Write(ctx, Event{What: "the last of the others"}))
}

// TestAnswerIsLostInACrowd: a line is found however many came behind it, and is
// there once.
func TestAnswerIsLostInACrowd(t *testing.T) {
	for _, n := range []int{0, page - 3, page - 2, page - 1, page, 2*page - 2, 3 * page} {
		w := newWorld(t)
		check(t, w.open(w.store, false).Write(t.Context(), Event{What: "first"}))
		l := w.open(&crowded{Audit: w.store, others: w.open(w.store, false), n: n}, false)
		check(t, l.Write(t.Context(), Event{What: "mine"}))
		check(t, l.Write(t.Context(), Event{What: "mine, too"}))
		count := map[string]int{}
		for _, line := range w.lines() {
			count[line.What]++
		}
		if count["mine"] != 1 || count["mine, too"] != 1 || len(count) != n+4 {
			t.Errorf("among %d others: %d and %d times, of %d lines", n, count["mine"], count["mine, too"], len(count))
		}
		w.good()
	}
}
