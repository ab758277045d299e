package redis_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// auditLines are lines behind a head.
func auditLines(after storage.AuditHead, bodies ...string) (list []storage.AuditLine) {
	for _, body := range bodies {
		l := storage.AuditLine{Seq: after.Seq + 1, Until: start.Add(90 * 24 * time.Hour), Body: []byte(body)}
		l.Link = l.LinkAfter(after)
		list, after = append(list, l), l.Head()
	}
	return list
}

// auditBodies reads the whole log, which must be whole.
func auditBodies(t testing.TB, s storage.Store) (bodies []string) {
	t.Helper()
	var chain storage.AuditChain
	for {
		list, err := s.AuditLines(t.Context(), chain.Last.Seq, 1000)
		check(t, err)
		for _, l := range list {
			check(t, chain.Next(l))
			bodies = append(bodies, string(l.Body))
		}
		if len(list) < 1000 {
			return bodies
		}
	}
}

// TestAuditMemory: what the package says of a line.
func TestAuditMemory(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	const n, most = 51_200, 430
	body := `{"v":1,"id":"Zm9vYmFyYmF6-%07d","at":"2026-11-23T12:00:00.123456Z","what":"code issued","client":"orders-spa","user":"k3v5n2q7w4x6y3z5abcdefghij","session":"k3v5n2q7w4x6y3z5abcdefghij.abcdefghijklm","grant":"k3v5n2q7w4x6y3z5abcdefghij.abcdefghijklm.nopqrstuvwxyz","address":"203.0.113.7"}`
	var head storage.AuditHead
	for i := 0; i < n; i += storage.MaxAuditLines {
		var bodies []string
		for j := range storage.MaxAuditLines {
			bodies = append(bodies, fmt.Sprintf(body, i+j))
		}
		list := auditLines(head, bodies...)
		check(t, s.AppendAudit(t.Context(), head, list))
		head = list[len(list)-1].Head()
	}
	bytes, err := strconv.Atoi(do(t, server, "MEMORY", "USAGE", "sg:{a}audit", "SAMPLES", "0"))
	check(t, err)
	t.Logf("%d bytes a line, whose text is %d", bytes/n, len(body))
	if bytes/n > most {
		t.Errorf("a line takes %d bytes, at most %d are documented", bytes/n, most)
	}
}

// TestAuditIsCut: somebody has cut off the end of the log. It goes on, and from
// where it ends: what was noted of the head elsewhere shows that it was cut.
func TestAuditIsCut(t *testing.T) {
	server := redistest.Single(t)
	s := open(t, "redis://"+server.Addr)
	list := auditLines(storage.AuditHead{}, "a", "b", "c")
	check(t, s.AppendAudit(t.Context(), storage.AuditHead{}, list))
	do(t, server, "XDEL", "sg:{a}audit", "3-0", "2-0")
	want(t, s.AppendAudit(t.Context(), list[2].Head(), auditLines(list[2].Head(), "d")), storage.ErrConflict)
	h, err := s.AuditHead(t.Context())
	check(t, err)
	check(t, s.AppendAudit(t.Context(), h, auditLines(h, "d", "e")))
	if got := auditBodies(t, s); !slices.Equal(got, []string{"a", "d", "e"}) {
		t.Errorf("there is %q", got)
	}
	// All of it, too.
	do(t, server, "XTRIM", "sg:{a}audit", "MAXLEN", "0")
	check(t, s.AppendAudit(t.Context(), storage.AuditHead{}, auditLines(storage.AuditHead{}, "f")))
	if got := auditBodies(t, s); !slices.Equal(got, []string{"f"}) {
		t.Errorf("there is %q", got)
	}
	check(t, s.Check(t.Context(), func(p string) { t.Error(p) }))
}

// log appends lines as a server does: behind the head that it has read, and
// after an answer that was lost it looks whether they are there.
func (l *trouble) log(i int) {
	ctx := context.Background()
	for n := 0; l.ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%d-%d", i, n)
		var head storage.AuditHead
		if !l.timed("head", func() (err error) { head, err = l.store.AuditHead(ctx); return err }) {
			continue
		}
		lines := auditLines(head, body+"-a", body+"-b")
		if l.timed("log", func() error { return l.store.AppendAudit(ctx, head, lines) }, storage.ErrConflict) {
			l.mu.Lock()
			l.logged[i] = append(l.logged[i], body+"-a", body+"-b")
			l.mu.Unlock()
		}
	}
}

// checkAudit checks that every line that was acknowledged is there once, in a
// chain that is whole.
func (l *trouble) checkAudit() {
	t := l.t
	t.Helper()
	there := map[string]int{}
	got := auditBodies(t, l.store)
	for i, body := range got {
		there[body]++
		if a, ok := strings.CutSuffix(body, "-a"); ok && (i+1 == len(got) || got[i+1] != a+"-b") {
			t.Errorf("%s is without the line that came with it", body)
		}
	}
	acknowledged := 0
	for _, list := range l.logged {
		for _, body := range list {
			if acknowledged++; there[body] != 1 {
				t.Errorf("line %s was acknowledged, and is there %d times", body, there[body])
			}
		}
	}
	if acknowledged == 0 {
		t.Error("no audit lines were appended: the test shows nothing")
	}
	check(t, l.store.Check(t.Context(), func(p string) {
		if strings.Contains(p, "audit") {
			t.Error(p)
		}
	}))
	t.Logf("%d audit lines, %d acknowledged", len(got), acknowledged)
}
