package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/storage"
)

// Line is a line of the log, as it is read.
type Line struct {
	// Seq is its number: 1, 2, 3, …
	Seq uint64 `json:"seq"`
	// At is when it happened, by the clock of who wrote it.
	At time.Time `json:"at"`
	Event
	// Late is how much later it was kept, if that is more than a second: the
	// store could not be written.
	Late time.Duration `json:"late,omitempty"`
	// Link is the line's link, in hex.
	Link string `json:"link"`
}

// kept is when the line was written to the store.
func (l Line) kept() time.Time { return l.At.Add(l.Late) }

// Whats of the lines that this package writes by itself.
const (
	whatSealed  = "audit log sealed"
	whatLost    = "audit lines were lost"
	whatLeftOut = "more refusals were left out"
	whatBroken  = "audit log is not what it was"
	unreadable  = "(a line that can't be read)"
)

// version is that of the text of a line. A field that is new and that readers
// may ignore needs no other.
const version = 1

// text is a line as it is stored: JSON.
type text struct {
	Version int `json:"v"`
	// ID is the process's, random, and a number of its own: a line that was
	// appended although its answer was lost is found by it.
	ID string    `json:"id"`
	At time.Time `json:"at"` // UTC, in microseconds
	Event
	Late int64 `json:"late,omitempty"` // milliseconds
	Seal *seal `json:"seal,omitempty"`
}

// encode returns the text of a line. Whatever is in it, it is within
// [storage.MaxAuditBody].
func (t text) encode() []byte {
	t.Version, t.At = version, t.At.UTC().Truncate(time.Microsecond)
	b := t.marshal()
	if len(b) > storage.MaxAuditBody { // each byte may be six in JSON
		t.Event = t.short(shortText)
		b = t.marshal()
	}
	return b
}

func (t text) marshal() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(t); err != nil {
		panic(err) // there is nothing in it that can't be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// decode reads the text of a line.
func decode(l storage.AuditLine) (t text, err error) {
	if err := json.Unmarshal(l.Body, &t); err != nil {
		return text{}, fmt.Errorf("line %d can't be read: %w", l.Seq, err)
	}
	if t.Version != version {
		return text{}, fmt.Errorf("line %d has version %d, this Solegate knows %d", l.Seq, t.Version, version)
	}
	return t, nil
}

// read is decode for those who show lines: one that can't be read shows as that.
func read(l storage.AuditLine) Line {
	t, err := decode(l)
	if err != nil {
		t = text{Event: Event{What: unreadable, Reason: err.Error()}}
	}
	return Line{Seq: l.Seq, At: t.At, Event: t.Event, Late: time.Duration(t.Late) * time.Millisecond, Link: hex.EncodeToString(l.Link[:])}
}

// Head is a line by its number and link: with the text of it somebody who noted
// it can be sure that all lines up to it are still there.
type Head struct {
	Seq  uint64
	Link storage.Hash
}

// String returns SEQ:LINK, the link in hex.
func (h Head) String() string {
	return strconv.FormatUint(h.Seq, 10) + ":" + hex.EncodeToString(h.Link[:])
}

// ParseHead reads what [Head.String] wrote.
func ParseHead(s string) (h Head, err error) {
	seq, link, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(seq, 10, 64)
	b, hexErr := hex.DecodeString(link)
	if err != nil || hexErr != nil || n == 0 || len(b) != len(h.Link) {
		return h, fmt.Errorf("%q is no head: the number and the link of a line are expected, such as 1234:5f1e…, as a seal has them in the server's log", s)
	}
	return Head{n, storage.Hash(b)}, nil
}
