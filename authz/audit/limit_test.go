package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/storage"
)

// TestFlood: what a stranger can cause is bounded, and told; what is of
// consequence is kept whole, and the structured log has everything.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	flood := func(n int) {
		for range n {
			l.Record(t.Context(), Event{What: "authorization refused"})
		}
	}
	flood(3000)
	for range 500 {
		l.Record(t.Context(), Event{What: "login succeeded", User: "u"})
	}
	w.advance(time.Second)
	flood(1000)
	l.tellLeftOut()
	l.tellLeftOut()
	w.close(l)
	count := map[string]int{}
	left := 0
	for _, line := range w.lines() {
		count[line.What]++
		if line.What == whatLeftOut {
			left += line.Count
		}
	}
	want := map[string]int{"authorization refused": strangersBurst + strangersPerSecond, "login succeeded": 500, whatLeftOut: 1}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left != 4000-strangersBurst-strangersPerSecond {
		t.Errorf("%d are said to be left out", left)
	}
	if n := strings.Count(w.logged(), `"msg":"authorization refused"`); n != 4000 {
		t.Errorf("the structured log has %d", n)
	}
}

// TestFloodOfAccount: an account that signs in to a client again and again fills
// nothing, and takes nothing from others.
func TestFloodOfAccount(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	for range 1000 {
		l.Record(t.Context(), Event{What: "code issued", User: "mallory"})
	}
	for n := range maxAccounts + 10 { // more than are remembered
		l.limits.leftOut(Event{What: "code issued", User: storage.UserID(fmt.Sprint(n))}, w.now())
	}
	if len(l.limits.accounts) > maxAccounts {
		t.Errorf("%d accounts are remembered", len(l.limits.accounts))
	}
	l.Record(t.Context(), Event{What: "code issued", User: "alice"})
	w.close(l)
	count := map[storage.UserID]int{}
	for _, line := range w.lines() {
		count[line.User]++
	}
	if count["mallory"] != accountBurst || count["alice"] != 1 {
		t.Errorf("there are %v", count)
	}
}

// TestFloodForever: a stranger who never stops, with texts as long as they get,
// fills no store before somebody looks.
func TestFloodForever(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	long := strings.Repeat("\x00", 1000)
	for range 400 { // of what is left out nothing is made, so the rest of the day is as these
		l.Record(t.Context(), Event{What: "authorization refused", RedirectURI: long, Reason: fmt.Sprintf("%q", long)})
	}
	w.close(l)
	lines, err := w.store.AuditLines(t.Context(), 0, 1000)
	check(t, err)
	size := 0
	for _, line := range lines {
		size += len(line.Body)
	}
	const day = 24 * 60 * 60
	if perDay := size / len(lines) * (day*strangersPerSecond + strangersBurst) >> 20; perDay > 140 {
		t.Errorf("it is %d MB a day", perDay)
	}
}
