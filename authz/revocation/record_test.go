package revocation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// recording makes w's revoker one whose audit log is in the store, with a fault in
// every append.
func (w *world) recording(o storagetest.Outcome) {
	w.t.Helper()
	s := storagetest.WithFaults(w.store, func(string) storagetest.Outcome { return o })
	log := audit.New(audit.Config{Store: s, Now: func() time.Time { return start }})
	w.t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		log.Close(ended)
	})
	w.revoker.Audit = log
}

// kept is what the audit log in the store says.
func (w *world) kept() (whats []string) {
	w.t.Helper()
	lines, err := audit.Search(w.t.Context(), w.store, audit.Query{})
	check(w.t, err)
	for _, l := range lines {
		whats = append(whats, l.What)
	}
	return whats
}

// TestEndsAreRecorded: whoever ends something waits for its line in the audit
// log. If only that can't be written, it is done, and the error says so.
func TestEndsAreRecorded(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t)
			w.recording(storagetest.Outcome{})
			check(t, e.do(t.Context(), w))
			if got := w.kept(); len(got) != 1 {
				t.Errorf("the audit log has %q", got)
			}
			w = newWorld(t)
			before := w.state()
			w.recording(storagetest.Outcome{Fail: true})
			err := e.do(t.Context(), w)
			if !errors.Is(err, revocation.ErrNotRecorded) || !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "it is done, but the line") {
				t.Errorf("without its line: %v", err)
			}
			if w.state() == before {
				t.Error("it is not done")
			}
			if got := w.kept(); len(got) != 0 {
				t.Errorf("the audit log has %q", got)
			}
		})
	}
}

// TestNotEndedIsNotRecorded: what failed has no line, and the error is no
// ErrNotRecorded.
func TestNotEndedIsNotRecorded(t *testing.T) {
	for _, e := range ends {
		w := newWorld(t)
		w.recording(storagetest.Outcome{})
		w.fault = func(write string) storagetest.Outcome { return storagetest.Outcome{Fail: write == e.write} }
		if err := e.do(t.Context(), w); err == nil || errors.Is(err, revocation.ErrNotRecorded) {
			t.Errorf("%s: %v", e.name, err)
		}
		if got := w.kept(); len(got) != 0 {
			t.Errorf("%s: the audit log has %q", e.name, got)
		}
	}
}

// TestDeadGrantFillsNothing: who presents the tokens of a dead grant again and
// again is written down, and fills no log.
func TestDeadGrantFillsNothing(t *testing.T) {
	w := newWorld(t)
	w.recording(storagetest.Outcome{})
	for range 500 {
		check(t, w.revoker.RevokeGrant(t.Context(), "u.s.g", "revoked by the client"))
	}
	if got := w.kept(); len(got) != 2 { // a second time for who was told that it is not recorded
		t.Errorf("there are %d lines", len(got))
	}
	w = newWorld(t)
	w.recording(storagetest.Outcome{})
	st, err := w.store.Standing(t.Context(), "u.s.g", "spa")
	check(t, err)
	for range 2000 {
		w.revoker.RecordReuse(t.Context(), st.Grant, storage.ReasonCodeReuse)
	}
	check(t, w.revoker.Audit.Close(t.Context()))
	lines, err := audit.Search(t.Context(), w.store, audit.Query{Limit: 10_000})
	check(t, err)
	if len(lines) > 502 || lines[0].What != "grant revoked" || lines[1].What != "reuse refused" {
		t.Errorf("there are %d lines: %.200v", len(lines), lines)
	}
}
