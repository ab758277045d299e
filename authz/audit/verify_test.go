package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// altered is a log of two servers and the command line, in a file that somebody
// else can write.
type altered struct {
	*world
	db   *sql.DB
	head Head // as the structured log has it
}

// forge writes a log of 30 lines, three of them seals, the last one too.
func forge(t *testing.T) *altered {
	t.Helper()
	path := filepath.Join(t.TempDir(), "solegate.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	w := &altered{world: &world{TB: t, store: s}}
	for _, operator := range []string{"cli:alice", "", ""} {
		l := w.open(s, true)
		for n := range 9 {
			w.advance(time.Second)
			check(t, l.Write(WithOperator(t.Context(), operator), Event{What: fmt.Sprint("event ", n)}))
		}
		w.close(l)
	}
	w.db, err = sql.Open("sqlite", path)
	check(t, err)
	t.Cleanup(func() { w.db.Close() })
	text := w.logged()
	_, text, _ = strings.Cut(text[strings.LastIndex(text, `"head":"`):], `"head":"`)
	text, _, _ = strings.Cut(text, `"`)
	w.head, err = ParseHead(text)
	check(t, err)
	return w
}

func (w *altered) exec(query string, args ...any) {
	w.Helper()
	if _, err := w.db.Exec(query, args...); err != nil {
		w.Fatalf("%s: %v", query, err)
	}
}

// relink gives all lines from one on the links that fit them, and their seals,
// too, what does not need the key: what who can write to the store can do.
func (w *altered) relink(from uint64) {
	w.Helper()
	lines, err := w.store.AuditLines(w.Context(), 0, 1000)
	check(w, err)
	var before storage.AuditHead
	for _, l := range lines {
		if l.Seq >= from {
			t, err := decode(l)
			check(w, err)
			if t.Seal != nil {
				t.Seal.Link, t.Seal.Until = before.Link[:], before.Until
				l.Body = t.encode()
			}
			l.Link = l.LinkAfter(before)
			w.exec("UPDATE audit SET link = ?, body = ? WHERE seq = ?", l.Link[:], l.Body, l.Seq)
		}
		before = l.Head()
	}
}

// TestVerifyFinds: whatever somebody does to the log who can write to the store
// shows, and is named.
func TestVerifyFinds(t *testing.T) {
	if w := forge(t); true {
		r := w.verify(w.head)
		if len(r.Problems)+len(r.Remarks) > 0 || r.Lines != 30 || r.Seals != 3 || r.Sealed != 30 || !r.SealsVerified || r.Head != w.head.String() {
			t.Fatalf("a good log: %+v", r)
		}
	}
	const alterBody = "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'event', 'evenT') AS BLOB) WHERE seq = "
	for name, c := range map[string]struct {
		alter   func(*altered)
		says    string
		keyless bool // it shows without the master key, too
	}{
		"a line is altered":       {func(w *altered) { w.exec(alterBody + "5") }, "line 5 is not what was written behind line 4", true},
		"the first is altered":    {func(w *altered) { w.exec(alterBody + "1") }, "line 1 is not what was written", true},
		"the time is altered":     {func(w *altered) { w.exec("UPDATE audit SET until = until + 1 WHERE seq = 7") }, "line 7 is not what was written", true},
		"a line is taken out":     {func(w *altered) { w.exec("DELETE FROM audit WHERE seq = 12") }, "line 12 is missing", true},
		"lines are taken out":     {func(w *altered) { w.exec("DELETE FROM audit WHERE seq BETWEEN 12 AND 15") }, "lines 12 to 15 are missing", true},
		"a seal is taken out":     {func(w *altered) { w.exec("DELETE FROM audit WHERE seq = 10") }, "line 10 is missing", true},
		"the begin is taken away": {func(w *altered) { w.exec("DELETE FROM audit WHERE seq < 4") }, "begins with line 4, and the lines before it were not yet to be removed", true},
		"all but the last line":   {func(w *altered) { w.exec("DELETE FROM audit WHERE seq < 30") }, "begins with line 30", true},
		"two lines are swapped": {func(w *altered) {
			w.exec("UPDATE audit SET seq = 99 WHERE seq = 5")
			w.exec("UPDATE audit SET seq = 5 WHERE seq = 6")
			w.exec("UPDATE audit SET seq = 6 WHERE seq = 99")
		}, "line 5 is not what was written behind line 4", true},
		"a line is put in": {func(w *altered) {
			w.exec("UPDATE audit SET seq = seq + 100 WHERE seq >= 5")
			w.exec("UPDATE audit SET seq = seq - 99 WHERE seq >= 100")
			w.exec("INSERT INTO audit SELECT 5, until, link, body FROM audit WHERE seq = 4")
		}, "line 5 is not what was written behind line 4", true},
		"a text is no line": {func(w *altered) { w.exec("UPDATE audit SET body = x'7b' WHERE seq = 5") }, "line 5 can't be read", true},
		"another version":   {func(w *altered) { w.exec(`UPDATE audit SET body = CAST('{"v":2}' AS BLOB) WHERE seq = 5`) }, "line 5 has version 2", true},
		"a line is altered, and linked anew": {func(w *altered) {
			w.exec(alterBody + "5")
			w.relink(5)
		}, "line 10: its seal is not one of a server with this master key", false},
		"the begin is taken away, and the first line's time is put back": {func(w *altered) {
			w.exec("DELETE FROM audit WHERE seq < 4")
			w.exec("UPDATE audit SET until = 1 WHERE seq = 4")
		}, "line 5 is not what was written behind line 4", true},
		"the seals are taken out, and all is linked anew": {func(w *altered) {
			w.exec("DELETE FROM audit WHERE seq IN (10, 20, 30)")
			w.exec("UPDATE audit SET seq = seq - (seq > 10) - (seq > 20)")
			w.relink(1)
		}, "there is no seal in the log", false},
		"a seal of before is put in again": {func(w *altered) {
			w.exec("UPDATE audit SET body = (SELECT body FROM audit WHERE seq = 10) WHERE seq = 20")
			w.relink(20)
		}, "line 20: its seal is not one of a server with this master key", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := forge(t)
			c.alter(w)
			r := w.verify()
			if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, c.says) }) {
				t.Errorf("%q expected in %q", c.says, r.Problems)
			}
			if len(r.Problems) > 3 && name != "a line is put in" { // then all behind it have another number
				t.Errorf("there are %d problems: %q", len(r.Problems), r.Problems)
			}
			r, err := Verify(t.Context(), w.store, Verification{Now: w.now()})
			check(t, err)
			if (len(r.Problems) > 0) != c.keyless || r.SealsVerified || len(r.Remarks) == 0 {
				t.Errorf("without the key: %+v", r)
			}
			if r := w.verify(w.head); len(r.Problems) == 0 {
				t.Errorf("against the head that was noted: %+v", r)
			}
		})
	}
}

// TestVerifyHead: an end that was cut off shows to who has noted a head, and a
// log that was written anew with the key, too.
func TestVerifyHead(t *testing.T) {
	w := forge(t)
	w.exec("DELETE FROM audit WHERE seq > 20")
	if r := w.verify(); len(r.Problems) > 0 || r.Last != 20 {
		t.Errorf("without a head that cannot show: %+v", r)
	}
	if r := w.verify(w.head); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "line 30 was noted as the head, and the log ends with line 20") {
		t.Errorf("cut off: %+v", r)
	}
	l := w.open(w.store, true)
	for n := range 20 {
		check(t, l.Write(t.Context(), Event{What: fmt.Sprint("another ", n)}))
	}
	w.close(l)
	if r := w.verify(w.head); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "line 30 has another link than the head that was noted") {
		t.Errorf("written anew: %+v", r)
	}
	// Whoever notes what every server says has both, in any order.
	now, err := w.store.AuditLines(t.Context(), 29, 1)
	check(t, err)
	for _, heads := range [][]Head{{w.head, {30, now[0].Link}}, {{30, now[0].Link}, w.head}} {
		if r := w.verify(heads...); len(r.Problems) != 1 {
			t.Errorf("written anew, and noted before and after: %q", r.Problems)
		}
	}
	w.exec("DELETE FROM audit")
	if r := w.verify(w.head); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "the log is empty") {
		t.Errorf("emptied: %+v", r)
	}
	for _, bad := range []string{"", "1", ":", "0:" + w.head.String(), "x" + w.head.String(), w.head.String() + "00", "-1:" + strings.Repeat("00", 32)} {
		if _, err := ParseHead(bad); err == nil {
			t.Errorf("%q is read as a head", bad)
		}
	}
}

// TestVerifyRetention: a begin that was removed when its time was up is told
// from one that was stolen, down to a single line.
func TestVerifyRetention(t *testing.T) {
	w := forge(t)
	sweep := func(ahead time.Duration) {
		t.Helper()
		w.advance(ahead)
		for n := 10; n == 10; {
			var err error
			n, err = w.store.Sweep(t.Context(), w.now(), 10)
			check(t, err)
		}
	}
	good := func(first, seals uint64) {
		t.Helper()
		r := w.verify(w.head)
		if len(r.Problems) > 0 || r.First != first || r.Seals != seals {
			t.Errorf("want %d and %d: %+v", first, seals, r)
		}
		if first > 1 && !strings.Contains(r.Remarks[0], "were removed when their time was up") {
			t.Errorf("remarks: %q", r.Remarks)
		}
	}
	sweep(24*time.Hour - 27*time.Second)
	good(1, 3) // of two, one stays
	sweep(8 * time.Second)
	good(8, 3)
	sweep(2 * time.Second)
	good(11, 2)
	// What goes beyond that is a theft, one line or all but one.
	w.exec("CREATE TEMP TABLE kept AS SELECT * FROM audit")
	for _, cut := range []int{12, 21, 30} {
		w.exec("DELETE FROM audit WHERE seq < ?", cut)
		if r := w.verify(); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], fmt.Sprintf("begins with line %d, and the lines before it were not yet to be removed", cut)) {
			t.Errorf("cut before %d: %q", cut, r.Problems)
		}
	}
	// Nor does it help to alter the time of the last one, which is a seal.
	w.exec("UPDATE audit SET until = 1")
	if r := w.verify(); len(r.Problems) == 0 || !strings.Contains(r.Problems[0], "line 30, a seal, was altered") {
		t.Errorf("with another time: %q", r.Problems)
	}
	// Nor with the link that fits it.
	lines, err := w.store.AuditLines(t.Context(), 0, 10)
	check(t, err)
	seal, err := decode(lines[0])
	check(t, err)
	link := lines[0].LinkAfter(storage.AuditHead{Seq: 29, Link: storage.Hash(seal.Seal.Link), Until: seal.Seal.Until})
	w.exec("UPDATE audit SET link = ?", link[:])
	if r := w.verify(); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "line 30: its seal is not one of") {
		t.Errorf("with another time, and linked anew: %q", r.Problems)
	}
	// Nor a line of the command line's in place of all.
	w.exec(`UPDATE audit SET body = CAST('{"v":1,"operator":"cli:alice"}' AS BLOB)`)
	if r := w.verify(); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "there is no seal in the log") {
		t.Errorf("with another line: %q", r.Problems)
	}
	w.exec("DELETE FROM audit")
	w.exec("INSERT INTO audit SELECT * FROM kept")
	sweep(24 * time.Hour)
	good(30, 1)
	// The log goes on behind it.
	l := w.open(w.store, true)
	check(t, l.Write(t.Context(), Event{What: "later"}))
	w.close(l)
	sweep(0)
	good(30, 2)
}

// TestSealedLate: lines that nobody vouched for in time are named.
func TestSealedLate(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	check(t, l.Write(t.Context(), Event{What: "a"}))
	check(t, l.Write(t.Context(), Event{What: "b"}))
	w.advance(time.Hour)
	w.close(w.open(w.store, true))
	check(t, l.Write(t.Context(), Event{What: "c"}))
	r := w.verify()
	if len(r.Problems) > 0 || len(r.Remarks) != 2 || !strings.HasPrefix(r.Remarks[0], "lines 1 to 2, of 2026-11-23T12:00:00Z to 2026-11-23T12:00:00Z, were sealed only at 2026-11-23T13:00:00Z") ||
		!strings.HasPrefix(r.Remarks[1], "lines 4 to 4 are not sealed yet") {
		t.Errorf("got %+v", r)
	}
}

// TestServerNotices: a server that runs says that what it wrote is gone, one
// that starts that the end is not what was sealed; both go on.
func TestServerNotices(t *testing.T) {
	w := forge(t)
	l := w.open(w.store, true)
	check(t, l.Write(t.Context(), Event{What: "mine"}))
	w.exec("DELETE FROM audit WHERE seq > 25")
	check(t, l.Write(t.Context(), Event{What: "more"}))
	w.close(l)
	got := w.lines()[25:]
	if !slices.Equal(whats(got), []string{"more", whatBroken, whatSealed}) || !strings.HasPrefix(got[1].Reason, "line 31:") {
		t.Errorf("a server that runs wrote %+v", got)
	}
	if !strings.Contains(w.logged(), `"level":"ERROR"`) || !strings.Contains(w.logged(), "is not what it was") {
		t.Error("the structured log says nothing")
	}

	if r := w.verify(); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "line 27: a server found then that the log was not what it was: \"line 31:") {
		t.Errorf("what a server has found shows: %q", r.Problems)
	}

	run := func(w *altered) []Line {
		t.Helper()
		before := len(w.lines())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.open(w.store, true).Run(ctx) }()
		started := errors.New("it has started")
		_, err := Follow(t.Context(), w.store, uint64(before), Query{What: whatSealed}, func(Line) error { return started })
		if !errors.Is(err, started) {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return w.lines()[before:]
	}
	w = forge(t)
	if got := whats(run(w)); !slices.Equal(got, []string{whatSealed, whatSealed}) {
		t.Errorf("a server that starts on a good log wrote %q", got)
	}
	w = forge(t)
	w.exec("UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'event', 'evenT') AS BLOB) WHERE seq = 15")
	w.relink(15)
	if got := run(w); len(got) != 3 || got[0].What != whatBroken || !strings.Contains(got[0].Reason, "line 20: its seal is not one of") {
		t.Errorf("a server that starts on an altered log wrote %+v", got)
	}
}

// TestSealsWhatOthersWrite: a server seals what came since the last seal,
// whoever wrote it, and nothing if nothing came.
func TestSealsWhatOthersWrite(t *testing.T) {
	w := newWorld(t)
	server, other := w.open(w.store, true), w.open(w.store, true)
	cli := w.open(w.store, false)
	flushed := func(l *Log) {
		t.Helper()
		l.mu.Lock()
		running := l.running
		l.mu.Unlock()
		if running != nil {
			<-running
		}
	}
	for range 3 {
		server.sealNew(t.Context())
		flushed(server)
	}
	if got := w.lines(); len(got) > 0 {
		t.Errorf("an empty log was sealed: %v", got)
	}
	check(t, cli.Write(t.Context(), Event{What: "a"}))
	for range 3 {
		server.sealNew(t.Context())
		flushed(server)
		other.sealNew(t.Context())
		flushed(other)
	}
	check(t, cli.Write(t.Context(), Event{What: "b"}))
	other.sealNew(t.Context())
	flushed(other)
	if got := whats(w.lines()); !slices.Equal(got, []string{"a", whatSealed, "b", whatSealed}) {
		t.Errorf("there is %q", got)
	}
	w.good()
}

// TestServerNoticesAnotherBegin: all that a server wrote is taken away, and in
// its place is nothing, or a line that says that its time is up.
func TestServerNoticesAnotherBegin(t *testing.T) {
	for name, forged := range map[string]string{
		"nothing":          "DELETE FROM audit WHERE seq = 99",
		"a line of before": "UPDATE audit SET until = 1 WHERE seq = 99",
	} {
		w := forge(t)
		l := w.open(w.store, true)
		check(t, l.Write(t.Context(), Event{What: "mine"}))
		w.exec("UPDATE audit SET seq = 99 WHERE seq = 5")
		w.exec("DELETE FROM audit WHERE seq <> 99")
		w.exec(forged)
		check(t, l.Write(t.Context(), Event{What: "more"}))
		for range 3 {
			l.sealNew(t.Context())
		}
		w.close(l)
		got := whats(w.lines())
		if n := len(slices.DeleteFunc(slices.Clone(got), func(what string) bool { return what != whatBroken })); n != 1 {
			t.Errorf("%s: the log says %d times that it is not what it was: %q", name, n, got)
		}
		if r := w.verify(); len(r.Problems) == 0 {
			t.Errorf("%s: verified: %+v", name, r)
		}
	}
}
