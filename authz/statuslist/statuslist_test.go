package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const issuer = "https://login.example.com"

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLists() *Lists { return New(Config{Issuer: issuer, Key: [32]byte{1}}) }

func place(t testing.TB, l *Lists, client clients.ID, epoch uint64) storage.Place {
	t.Helper()
	p, err := l.Place(client, epoch)
	check(t, err)
	return p
}

// status reads a place of a list as the draft says (§4.1): inflate, then the
// bits of a byte from the least significant one.
func status(t testing.TB, lst string, bits, index int) byte {
	t.Helper()
	packed, err := base64.RawURLEncoding.DecodeString(lst)
	check(t, err)
	z, err := zlib.NewReader(bytes.NewReader(packed))
	check(t, err)
	all, err := io.ReadAll(z)
	check(t, err)
	at := index * bits
	return all[at/8] >> (at % 8) & (1<<bits - 1)
}

// TestReader: the reader of these tests reads the draft's own vectors (§4.1,
// §4.2, appendix B.1).
func TestReader(t *testing.T) {
	for i, want := range []byte{1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1} {
		if got := status(t, "eNrbuRgAAhcBXQ", 1, i); got != want {
			t.Errorf("1 bit, %d: %d, %d expected", i, got, want)
		}
	}
	for i, want := range []byte{1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3} {
		if got := status(t, "eNo76fITAAPfAgc", 2, i); got != want {
			t.Errorf("2 bits, %d: %d, %d expected", i, got, want)
		}
	}
	const long = "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb"
	set := map[int]bool{0: true, 1993: true, 25460: true, 159495: true, 495669: true, 554353: true, 645645: true, 723232: true, 854545: true, 934534: true, 1000345: true}
	for i := range set {
		for _, at := range []int{i, i + 1} {
			if got := status(t, long, 1, at) == 1; got != set[at] {
				t.Errorf("1 bit, %d: %t", at, got)
			}
		}
	}
}

// TestPack: the byte array of the draft's first example is packed as there, or
// another way that inflates to the same.
func TestPack(t *testing.T) {
	p := publisher(t, newLists(), &source{})
	lst, err := p.pack([]byte{0xb9, 0xa3})
	check(t, err)
	for i := range 16 {
		if status(t, lst, 1, i) != status(t, "eNrbuRgAAhcBXQ", 1, i) {
			t.Errorf("%d differs", i)
		}
	}
	if raw, _ := base64.RawURLEncoding.DecodeString(lst); raw[0] != 0x78 || raw[1] != 0xda {
		t.Errorf("%x is no ZLIB format of the highest level", raw)
	}
}

// TestPlacesAreDistinct: no place is given twice, in an order that says nothing,
// and a list that is full is followed by another one.
func TestPlacesAreDistinct(t *testing.T) {
	l := newLists()
	seen := make([]bool, Size)
	first := place(t, l, "spa", 0)
	ascending, last := 0, first
	seen[first.Index] = true
	for range Size - 1 {
		p := place(t, l, "spa", 0)
		if p.List != first.List || seen[p.Index] {
			t.Fatalf("%+v after %+v", p, last)
		}
		if p.Index > last.Index {
			ascending++
		}
		seen[p.Index], last = true, p
	}
	if ascending < Size*45/100 || ascending > Size*55/100 {
		t.Errorf("%d of %d ascend", ascending, Size)
	}
	if p := place(t, l, "spa", 0); p.List == first.List {
		t.Error("a full list gives more places")
	}
	if p := place(t, newLists(), "spa", 0); p.List == first.List {
		t.Error("two processes share a list")
	}
	if p, q := place(t, l, "spa", 3), place(t, l, "spa", 2); p.List == last.List || q != (storage.Place{}) {
		t.Errorf("of a later epoch %+v, then of an earlier one %+v", p, q)
	}
}

func TestPlacesRace(t *testing.T) {
	l := newLists()
	var work sync.WaitGroup
	given := make([][]storage.Place, 8)
	for i := range given {
		work.Go(func() {
			for range 500 {
				p, err := l.Place(clients.ID("spa"), uint64(i/4))
				if err != nil {
					t.Error(err)
				}
				given[i] = append(given[i], p)
			}
		})
	}
	work.Wait()
	seen := map[storage.Place]bool{}
	for _, list := range given {
		for _, p := range list {
			if p.List != "" && seen[p] {
				t.Fatalf("%+v was given twice", p)
			}
			seen[p] = true
		}
	}
}

// TestIdentifier: another server of the store knows a list by its identifier,
// and nobody else can make one.
func TestIdentifier(t *testing.T) {
	l := newLists()
	p := place(t, l, "spa", 7)
	claim := l.Claim(p, "spa", 7)
	text, err := json.Marshal(claim)
	check(t, err)
	var read Claim
	check(t, json.Unmarshal(text, &read))
	if got := newLists().PlaceOf(&read); got != p {
		t.Errorf("%s is read as %+v, it is %+v", text, got, p)
	}
	if other := New(Config{Issuer: issuer, Key: [32]byte{2}}).PlaceOf(&read); other != (storage.Place{}) {
		t.Errorf("with another key: %+v", other)
	}
	for _, c := range []*Claim{nil, {}, {Reference{0, issuer + Path}}, {Reference{Size, read.List.URI}}, {Reference{0, "https://other.example.com" + Path + read.List.URI[len(issuer+Path):]}}} {
		if got := l.PlaceOf(c); got != (storage.Place{}) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if got := l.Claim(storage.Place{}, "spa", 7); got != nil {
		t.Errorf("no place: %+v", got)
	}
	if l.Claim(p, "spa", 8).List.URI == read.List.URI || l.Claim(p, "other", 7).List.URI == read.List.URI {
		t.Error("the epoch or the client is not in it")
	}
}

// source is a feed that is as current as it says.
type source struct {
	mu   sync.Mutex
	asOf time.Time
	err  error
	kid  string
}

func (s *source) Current(context.Context, time.Duration) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asOf, s.err
}

func (s *source) Signer(context.Context) (string, error) { return s.kid, nil }

// publishing is a Publisher that counts what it signs.
type publishing struct {
	*Publisher
	signatures atomic.Int64
}

func publisher(t testing.TB, l *Lists, s *source) *publishing {
	t.Helper()
	if s.asOf.IsZero() {
		s.asOf = start
	}
	p := &publishing{}
	sign := func(typ string, claims []byte) (string, error) {
		if typ != Type {
			t.Errorf("typ %s is signed", typ)
		}
		p.signatures.Add(1)
		return string(claims), nil
	}
	var err error
	p.Publisher, err = NewPublisher(l, s, sign, func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.asOf })
	check(t, err)
	return p
}

func idOf(l *Lists, p storage.Place, client clients.ID, epoch uint64) string {
	return strings.TrimPrefix(l.Claim(p, client, epoch).List.URI, issuer+Path)
}

// ask gets a list and reads it.
func ask(t testing.TB, p *publishing, id string) (c claims, d *Document) {
	t.Helper()
	d, err := p.Get(t.Context(), id)
	check(t, err)
	check(t, json.Unmarshal([]byte(d.JWS), &c))
	return c, d
}

func endOf(at storage.Place) storage.Event {
	return storage.Event{Kind: storage.EventGrant, Subject: "g", Until: start.Add(10 * time.Minute), Status: []storage.Place{at}}
}

// TestEndsAndForgets: events set the bits of what they name, once or twice, for
// as long as there are tokens.
func TestEndsAndForgets(t *testing.T) {
	l := newLists()
	s := &source{}
	p := publisher(t, l, s)
	a, b := place(t, l, "spa", 0), place(t, l, "spa", 0)
	id := idOf(l, a, "spa", 0)
	expect := func(when string, wantA, wantB byte) {
		t.Helper()
		c, _ := ask(t, p, id)
		if gotA, gotB := status(t, c.List.List, 1, int(a.Index)), status(t, c.List.List, 1, int(b.Index)); gotA != wantA || gotB != wantB {
			t.Errorf("%s: %d and %d, %d and %d expected", when, gotA, gotB, wantA, wantB)
		}
		if c.Issuer != issuer || c.Subject != issuer+Path+id || c.IssuedAt != s.asOf.Unix() || c.Expires != s.asOf.Add(Life).Unix() || c.TTL != 5 || c.List.Bits != 1 {
			t.Errorf("%s: %+v", when, c)
		}
	}
	expect("at first", 0, 0)
	l.Apply(endOf(a))
	l.Apply(endOf(a))
	l.Apply(storage.Event{Kind: storage.EventGrant, Status: []storage.Place{{List: a.List, Index: Size}, {List: "of nobody", Index: 1}}, Until: start.Add(time.Hour)})
	expect("a has ended", 1, 0)
	later := endOf(b)
	later.Until = later.Until.Add(time.Hour)
	l.Apply(later)
	expect("both have", 1, 1)
	l.Forget(start.Add(10 * time.Minute))
	expect("a may still have tokens", 1, 1)
	l.Forget(start.Add(10*time.Minute + 2*time.Second))
	expect("a's have expired", 0, 1)
	l.Apply(endOf(a))
	expect("a ends once more", 1, 1)
	l.Forget(start.Add(2 * time.Hour))
	expect("all have expired", 0, 0)
	if n := len(l.ended.lists) + len(l.ended.clients); n != 0 {
		t.Errorf("%d are left", n)
	}
	// Of a client: all lists of before its epoch, and no others.
	other, next := place(t, l, "other", 0), place(t, l, "spa", 1)
	l.Apply(storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 1, Until: start.Add(10 * time.Minute)})
	expect("the client's have ended", 1, 1)
	for what, id := range map[string]string{"another client's": idOf(l, other, "other", 0), "the next epoch's": idOf(l, next, "spa", 1)} {
		if c, _ := ask(t, p, id); c.List.List != p.none {
			t.Errorf("%s list has ended, too", what)
		}
	}
	l.Forget(start.Add(time.Hour))
	expect("the client's have expired", 0, 0)
}

// TestFlood: who asks as often as they like gets one signature a second, and
// for what is no list none.
func TestFlood(t *testing.T) {
	l := newLists()
	s := &source{kid: "k1"}
	p := publisher(t, l, s)
	a := place(t, l, "spa", 0)
	id := idOf(l, a, "spa", 0)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 200 {
				if _, err := p.Get(t.Context(), id); err != nil {
					t.Error(err)
				}
				forged := []byte(id)
				forged[i%len(forged)] ^= 1
				if _, err := p.Get(t.Context(), string(forged)); !errors.Is(err, ErrUnknown) {
					t.Errorf("%s: %v", forged, err)
				}
			}
		})
	}
	work.Wait()
	signedOnce := func(when string, want int64) {
		t.Helper()
		_, d := ask(t, p, id)
		if _, again := ask(t, p, id); again != d || p.signatures.Load() != want {
			t.Errorf("%s: %d signatures, %d expected", when, p.signatures.Load(), want)
		}
	}
	signedOnce("a flood", 1)
	s.asOf = s.asOf.Add(999 * time.Millisecond)
	signedOnce("within the second", 1)
	s.asOf = s.asOf.Add(time.Millisecond)
	signedOnce("the next second", 2)
	l.Apply(endOf(a))
	signedOnce("an event", 3)
	s.kid = "k2"
	signedOnce("another key", 4)
	s.asOf = s.asOf.Add(-time.Hour)
	signedOnce("a clock that is set back", 5)
	// Lists that nobody asks for any more are forgotten.
	for i := range 3 * maxKept {
		ask(t, p, idOf(l, place(t, l, "spa", uint64(i+1)), "spa", uint64(i+1)))
	}
	if n := len(p.kept); n > maxKept {
		t.Errorf("%d are kept", n)
	}
}

// TestStoreIsAway: what was signed counts until it expires, and is signed anew
// only for what has ended since; what was not is not to be had.
func TestStoreIsAway(t *testing.T) {
	l := newLists()
	s := &source{}
	p := publisher(t, l, s)
	at := place(t, l, "spa", 0)
	id, other := idOf(l, at, "spa", 0), idOf(l, place(t, l, "other", 0), "other", 0)
	_, before := ask(t, p, id)
	s.err = storage.ErrUnavailable
	s.asOf = start.Add(Life - time.Second)
	if d, err := p.Get(t.Context(), id); err != nil || d != before {
		t.Errorf("while it counts: %v", err)
	}
	if _, err := p.Get(t.Context(), other); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("one that was not signed: %v", err)
	}
	l.Apply(endOf(at)) // was read before the store went away
	c, ended := ask(t, p, id)
	if got := status(t, c.List.List, 1, int(at.Index)); got != 1 || c.IssuedAt != start.Unix() || c.Expires != start.Add(Life).Unix() {
		t.Errorf("what has ended is %d in a list of %d to %d", got, c.IssuedAt, c.Expires)
	}
	if _, again := ask(t, p, id); again != ended {
		t.Error("it is signed again and again")
	}
	s.asOf = start.Add(Life)
	if _, err := p.Get(t.Context(), id); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("when it counts no more: %v", err)
	}
}

// FuzzFind: what is no identifier of ours is none, and nothing makes it panic.
func FuzzFind(f *testing.F) {
	l := newLists()
	id := idOf(l, storage.Place{List: "AAAAAAAAAAAA"}, "spa", 1)
	f.Add(id)
	f.Add(id[:47])
	f.Fuzz(func(t *testing.T, s string) {
		of, ok := l.find(s)
		if ok && (s != id || of.name != "AAAAAAAAAAAA" || of.epoch != 1) {
			t.Errorf("%q is %+v", s, of)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	l := newLists()
	p := publisher(b, l, &source{})
	id := idOf(l, place(b, l, "spa", 0), "spa", 0)
	for b.Loop() {
		if _, err := p.Get(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkForged(b *testing.B) {
	l := newLists()
	p := publisher(b, l, &source{})
	id := strings.Repeat("A", len(idOf(l, place(b, l, "spa", 0), "spa", 0)))
	for b.Loop() {
		if _, err := p.Get(b.Context(), id); err == nil {
			b.Fatal("it is a list")
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	l := newLists()
	for b.Loop() {
		p := place(b, l, "spa", 1<<50)
		l.Claim(p, "spa", 1<<50)
	}
}
