package admin_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/admin"
)

// following is a stream of the audit log.
type following struct {
	w    *world
	resp *http.Response
	read *bufio.Scanner
}

func (w *world) follow(query string, headers ...string) *following {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.door+"/admin/audit/follow"+query, nil)
	check(w.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: w.d}).Do(r)
	check(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("follow: %s", resp.Status)
	}
	return &following{w, resp, bufio.NewScanner(resp.Body)}
}

// next returns the next line, or false when the stream has ended.
func (f *following) next() (admin.Line, bool) {
	f.w.t.Helper()
	id := ""
	for f.read.Scan() {
		text := f.read.Text()
		switch data, isData := strings.CutPrefix(text, "data: "); {
		case isData:
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
			if err == nil {
				err = f.w.d.validate(value, "components", "schemas", "Line")
			}
			if err != nil {
				f.w.t.Errorf("%s: %v", data, err)
			}
			var l admin.Line
			check(f.w.t, json.Unmarshal([]byte(data), &l))
			if strconv.FormatUint(l.Seq, 10) != id {
				f.w.t.Errorf("line %d has the id %q", l.Seq, id)
			}
			return l, true
		case strings.HasPrefix(text, "id: "):
			id = strings.TrimPrefix(text, "id: ")
		case text != "" && text != ":":
			f.w.t.Errorf("the stream has %q", text)
		}
	}
	return admin.Line{}, false
}

// await returns the next line that says what.
func (f *following) await(what string) admin.Line {
	f.w.t.Helper()
	for {
		l, ok := f.next()
		if !ok {
			f.w.t.Fatalf("the stream ended before %q", what)
		}
		if l.What == what {
			return l
		}
	}
}

// TestAuditIsSearchedAndFollowed: every act is in it, with who did it.
func TestAuditIsSearchedAndFollowed(t *testing.T) {
	w := newWorld(t)
	alice := string(w.User("alice").ID)
	block := "/admin/users/" + alice + "/block"
	comes := w.follow("")
	w.must("POST", block, `{"reason":"scraping"}`)
	l := comes.await("user blocked")
	if string(l.User) != alice || l.Operator != "test" || l.Reason != "scraping" || l.UserName != "alice" {
		t.Errorf("the line is %+v", l)
	}
	w.must("POST", "/admin/users/"+alice+"/unblock", "")
	if other := comes.await("user unblocked"); other.Seq <= l.Seq {
		t.Errorf("line %d came after %d", other.Seq, l.Seq)
	}
	comes.resp.Body.Close()

	// Who comes back misses nothing, and may ask for less.
	if again := w.follow("", "Last-Event-ID", strconv.FormatUint(l.Seq-1, 10)).await("user blocked"); again.Seq != l.Seq {
		t.Errorf("line %d came again as %d", l.Seq, again.Seq)
	}
	w.must("POST", block, "")
	if first, ok := w.follow("?after=0&what=user+unblocked").next(); !ok || first.What != "user unblocked" {
		t.Errorf("the first line that is asked for is %+v", first)
	}

	search := func(query string) []admin.Line {
		t.Helper()
		var found struct{ Items []admin.Line }
		check(t, json.Unmarshal([]byte(w.must("GET", "/admin/audit"+query, "").text), &found))
		return found.Items
	}
	if got := search("?what=user+blocked&user=" + alice); len(got) != 2 || got[0].Seq != l.Seq {
		t.Errorf("the blocks are %+v", got)
	}
	for _, none := range []string{"?client=spa&what=user+blocked", "?user=nobody", "?session=x", "?grant=x", "?resource_server=x", "?until=2020-01-01T00:00:00Z", "?since=" + url.QueryEscape(w.Clock.Now().Add(time.Hour).Format(time.RFC3339))} {
		if got := search(none); len(got) != 0 {
			t.Errorf("%s: %+v", none, got)
		}
	}
	// All of it in parts, backwards, each line once.
	all, query := search("?limit=1000"), "?limit=2"
	for at := len(all); at > 0; {
		part := w.must("GET", "/admin/audit"+query, "")
		var lines struct{ Items []admin.Line }
		check(t, json.Unmarshal([]byte(part.text), &lines))
		for i := len(lines.Items) - 1; i >= 0; i-- {
			if at--; at < 0 || lines.Items[i].Seq != all[at].Seq {
				t.Fatalf("line %d comes out of turn", lines.Items[i].Seq)
			}
		}
		if (part.Next == "") != (at == 0) {
			t.Fatalf("next is %q with %d lines to go", part.Next, at)
		}
		query = "?limit=2&before=" + part.Next
	}
	for _, wrong := range []string{"?since=yesterday", "?before=-1", "?limit=0", "?after=1", "?user=a&user=b"} {
		if got := w.send("GET", "/admin/audit"+wrong, ""); got.status != 400 {
			t.Errorf("%s: %d", wrong, got.status)
		}
	}
	for query, headers := range map[string][]string{"?after=x": nil, "?before=1": nil, "": {"Last-Event-ID", "x"}} {
		if got := w.send("GET", "/admin/audit/follow"+query, "", headers...); got.status != 400 {
			t.Errorf("follow %s %q: %d", query, headers, got.status)
		}
	}
}

// TestStreamEnds with what the operator's token stands on, and with the server.
func TestStreamEnds(t *testing.T) {
	for why, end := range map[string]func(w *world) error{
		"the operator is dismissed": func(w *world) error { return w.Revoker.SetOperator(t.Context(), w.User("alice").ID, false) },
		"the operator is blocked":   func(w *world) error { return w.Revoker.BlockUser(t.Context(), w.User("alice").ID, "", time.Time{}) },
		"the token has expired":     func(w *world) error { w.Clock.Advance(6 * time.Minute); return nil },
		"the server ends":           func(w *world) error { w.Handler.EndStreams(); return nil },
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *authz.Config) { c.Admin = true })
			token := network(w)
			check(t, w.Revoker.SetOperator(t.Context(), w.User("alice").ID, true))
			f := w.follow("?after=0", "Authorization", token("alice"))
			f.await("login succeeded")
			check(t, end(w))
			for ended := false; !ended; {
				_, more := f.next()
				ended = !more
			}
		})
	}
}

// TestStreamsAreBounded: what is beyond is refused, and nothing else suffers.
func TestStreamsAreBounded(t *testing.T) {
	w := newWorld(t)
	var open []*following
	for range 32 {
		open = append(open, w.follow(""))
	}
	if got := w.send("GET", "/admin/audit/follow", ""); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", got.status, got.text)
	}
	w.must("GET", "/admin/users", "")
	open[0].resp.Body.Close()
	for { // when the server has noticed
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.door+"/admin/audit/follow", nil)
		check(t, err)
		resp, err := (&http.Client{Transport: w.d}).Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}
