package feed_test

import (
	"encoding/base64"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/feed"
	"github.com/solegate/solegate/keys"
	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

func TestSnapshotHasPages(t *testing.T) {
	w := newWorld(t, nil)
	r := w.reader(orders)
	if n := r.snapshot(); n != 1 || r.at != "" {
		t.Errorf("an empty store has %d pages, up to %q", n, r.at)
	}
	var list []storage.Event
	for range 2*wire.MaxPage + 500 {
		list = append(list, w.event(orders), w.event(reports))
	}
	w.append(list...)
	if n := r.snapshot(); n != 3 {
		t.Errorf("%d pages, 3 expected", n)
	}
	if len(r.subjects) != len(list)/2 {
		t.Errorf("%d events, %d expected", len(r.subjects), len(list)/2)
	}
	// Later only what is new: whoever polls.
	if n := r.snapshot(); n != 1 || len(r.subjects) != len(list)/2 {
		t.Errorf("nothing happened, and there are %d pages", n)
	}
	w.append(w.event(orders))
	r.snapshot()
	if len(r.subjects) != len(list)/2+1 {
		t.Errorf("%d events after one more", len(r.subjects))
	}
	// And then the stream goes on, with no gap between.
	w.append(w.event(orders))
	r.connect()
	r.until(len(list)/2 + 2)
}

// TestSnapshotIsTheSameWhileNothingHappens: so that a cache is of use, but not
// for longer than a heartbeat, for it says how things stand.
func TestSnapshotIsTheSameWhileNothingHappens(t *testing.T) {
	w := newWorld(t, nil)
	w.append(w.event(orders))
	page := func() *feed.Page {
		t.Helper()
		p, err := w.hub.Snapshot(t.Context(), orders, "")
		check(t, err)
		return p
	}
	first := page()
	w.advance(4 * time.Second)
	if p := page(); p.JWS != first.JWS || p.ETag != first.ETag {
		t.Error("nothing happened, and it is another")
	}
	w.advance(time.Second)
	second := page()
	if second.JWS == first.JWS || second.ETag == first.ETag {
		t.Error("it is as old as a heartbeat may be, and the same")
	}
	w.append(w.event(reports))
	if p := page(); p.JWS == second.JWS {
		t.Error("something happened, and it is the same")
	}
}

// TestWhatIsPastIsForgotten: what no token can be hit by is in no snapshot, and
// leaves no gap.
func TestWhatIsPastIsForgotten(t *testing.T) {
	w := newWorld(t, nil)
	r := w.reader(orders)
	short := w.event(orders)
	short.Until = start.Add(time.Minute)
	w.append(short, w.event(orders))
	r.snapshot()
	same(t, r.subjects, numbers(1, 2))
	w.advance(time.Minute)
	w.ticks <- time.Time{} // which removes it from memory, too
	w.ticks <- time.Time{}
	late := w.reader(orders)
	late.snapshot()
	same(t, late.subjects, numbers(2))
	// After a restart only what counts is read.
	w.stop()
	w.serve(nil)
	late = w.reader(orders)
	late.connect()
	late.until(1)
	same(t, late.subjects, numbers(2))
	// Whoever was there all the while goes on.
	w.append(w.event(orders))
	r.connect()
	r.until(3)
	same(t, r.subjects, numbers(1, 2, 3))
}

func kid(t *testing.T, jws string) string {
	t.Helper()
	head, err := base64.RawURLEncoding.DecodeString(strings.Split(jws, ".")[0])
	check(t, err)
	var h struct{ KID string }
	check(t, json.Unmarshal(head, &h))
	return h.KID
}

// TestRevokedKeySignsNothing: from the event on that names it, and what it
// signed before is signed again. Its own end it may tell.
func TestRevokedKeySignsNothing(t *testing.T) {
	w := newWorld(t, nil)
	old := w.ring.Signer(keys.ES256)
	w.append(w.event(orders))
	r := w.reader(orders)
	r.connect()
	r.until(1)
	r.next() // the heartbeat

	end := w.event()
	end.Kind, end.Subject = storage.EventKey, old
	w.append(end)
	jws, err := r.stream.Next()
	check(t, err)
	if r.take(jws); kid(t, jws) != old || r.subjects[1] != old {
		t.Errorf("the end of the key came by %s as %q", kid(t, jws), r.subjects)
	}
	// The ring is as it was: the operator's process may have died in between.
	w.ticks <- time.Time{}
	if m, err := r.next(); err == nil {
		t.Errorf("a key that is named signs %+v", m)
	}
	if _, err := w.hub.Snapshot(t.Context(), orders, ""); err == nil {
		t.Error("it signs a snapshot")
	}
	if r.connect() {
		t.Error("a stream begins")
	}

	// Another process withdraws it: this one learns that when it needs to.
	master, err := keys.ParseMaster([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"))
	check(t, err)
	operator, err := keys.Open(t.Context(), keys.Config{Store: open(t, w.path), Master: master, Algorithms: []keys.Algorithm{keys.ES256}, Now: w.clock})
	check(t, err)
	check(t, operator.Revoke(t.Context(), old, "leaked"))
	again := w.reader(orders)
	if !again.connect() {
		t.Fatalf("no stream begins: %d", again.status)
	}
	for range 3 { // two events and the heartbeat
		jws, err := again.stream.Next()
		check(t, err)
		if again.take(jws); kid(t, jws) == old {
			t.Errorf("%s is still signed by the old key", jws)
		}
	}
	p, err := w.hub.Snapshot(t.Context(), orders, "")
	check(t, err)
	if kid(t, p.JWS) == old {
		t.Error("the old key signs a snapshot")
	}
}

// TestEventThatCannotBeSent does not hold up the others.
func TestEventThatCannotBeSent(t *testing.T) {
	w := newWorld(t, nil)
	odd := w.event(orders)
	odd.Subject = strings.Repeat("x", 4096)
	w.append(odd, w.event(orders))
	r := w.reader(orders)
	r.connect()
	r.until(1)
	same(t, r.subjects, numbers(2))
}

// BenchmarkMillion says what a million revocations take in memory, and how long
// a new server reads them.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	w := newWorld(b, nil)
	for range million / 1000 {
		var list []storage.Event
		for range 1000 {
			list = append(list, w.event(orders))
		}
		w.append(list...)
	}
	w.stop()
	for b.Loop() {
		w.hub = nil
		before := memory()
		began := time.Now()
		var err error
		w.hub, err = feed.New(feed.Config{Issuer: issuer, Store: w.store, Now: w.clock, Sign: w.sign, Signer: func() string { return "k" }})
		check(b, err)
		_, err = w.hub.Snapshot(b.Context(), orders, "")
		check(b, err)
		b.ReportMetric(time.Since(began).Seconds(), "s/start")
		b.ReportMetric(float64(memory()-before)/million, "bytes/event")
		runtime.KeepAlive(w.hub)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFirstStreamOfAnAudience: nobody followed for it yet, and more happened
// since the reader's place than is kept for streams. It is not told that nothing
// is missing.
func TestFirstStreamOfAnAudience(t *testing.T) {
	w := newWorld(t, func(c *feed.Config) { c.Backlog = 4 })
	w.append(w.event(orders))
	r := w.reader(orders)
	r.snapshot()
	for range 10 {
		w.append(w.event(orders))
	}
	if r.connect() {
		r.until(5)
		t.Fatalf("the stream goes on with %q", r.subjects)
	}
	fresh := w.reader(orders)
	if fresh.connect() {
		t.Error("from the beginning it goes on in the middle")
	}
	r.snapshot()
	if !r.connect() {
		t.Errorf("after the snapshot: %d", r.status)
	}
	same(t, r.subjects, numbers(to(11)...))
}
