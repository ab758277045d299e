package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const (
	issuer   = "https://login.example.com"
	audience = "https://api.example.com"
)

var at = time.Unix(1764100000, 0)

func message(events ...Event) *Message {
	return &Message{Issuer: issuer, Audience: audience, IssuedAt: at, Span: Span{"001", "002"}, Events: events}
}

func blocked() Event {
	return Event{ID: "e1", Kind: User, Subject: "alice", Epoch: 3, NotBefore: at, Until: at.Add(time.Hour), Reason: ReasonBlocked}
}

func TestDocumentsComeBackAsTheyWere(t *testing.T) {
	odd := Event{Kind: Client, Subject: "ünï \"<&>\\ {[", Epoch: 1<<64 - 1, NotBefore: at, Until: at.Add(time.Second)}
	page := message(
		Event{Kind: User, Subject: "alice", Epoch: 1, NotBefore: at, Until: at},
		odd,
		Event{Kind: Grant, Subject: "alice.s.g", NotBefore: at, Until: at},
		Event{Kind: All, NotBefore: at, Until: at},
		Event{Kind: "of_tomorrow", NotBefore: at, Until: at},
	)
	page.More, page.From = true, ""
	still := message()
	still.From, still.To = "", ""
	for _, test := range []struct {
		typ string
		m   *Message
	}{
		{EventType, message(blocked())},
		{HeartbeatType, message()},
		{HeartbeatType, still},
		{SnapshotType, page},
		{SnapshotType, &Message{Issuer: issuer, Audience: audience, IssuedAt: at, Events: []Event{}}},
	} {
		payload, err := test.m.Claims(test.typ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(test.typ, payload, issuer, audience)
		if err != nil || !reflect.DeepEqual(got, test.m) {
			t.Errorf("%s %s:\ngot  %+v, %v\nwant %+v", test.typ, payload, got, err, test.m)
		}
	}
}

func TestTimesAreRoundedTowardsRefusal(t *testing.T) {
	e := blocked()
	e.NotBefore, e.Until = at.Add(999999999), at.Add(1)
	payload, err := message(e).Claims(EventType)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(EventType, payload, issuer, audience)
	if err != nil || !m.Events[0].NotBefore.Equal(at) || !m.Events[0].Until.Equal(at.Add(time.Second)) {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestEventTypes: each kind in the words of the standards, where they have any.
func TestEventTypes(t *testing.T) {
	for _, test := range []struct {
		e    Event
		want string
	}{
		{blocked(), `"jti":"e1","toe":1764100000,"sub_id":{"format":"iss_sub","iss":"https://login.example.com","sub":"alice"},"events":{"https://schemas.openid.net/secevent/risc/event-type/account-disabled":{"kind":"user","subject":"alice","epoch":3,"not_before":1764100000,"until":1764103600,"cause":"blocked"}}`},
		{Event{Kind: User, Subject: "alice", Epoch: 1, Reason: ReasonRemoved}, `"sub_id":{"format":"iss_sub","iss":"https://login.example.com","sub":"alice"},"events":{"https://schemas.openid.net/secevent/risc/event-type/account-purged":{"kind":"user"`},
		{Event{Kind: User, Subject: "alice", Epoch: 1}, `"sub_id":{"format":"complex","user":{"format":"iss_sub","iss":"https://login.example.com","sub":"alice"}},"events":{"https://schemas.openid.net/secevent/caep/event-type/session-revoked":{"kind":"user","subject":"alice","epoch":1,"not_before":1764100000,"until":1764100000,"event_timestamp":1764100000}}`},
		{Event{Kind: Session, Subject: "alice.s"}, `"sub_id":{"format":"complex","user":{"format":"iss_sub","iss":"https://login.example.com","sub":"alice"},"session":{"format":"opaque","id":"alice.s"}},"events":{"https://schemas.openid.net/secevent/caep/event-type/session-revoked":{"kind":"session","subject":"alice.s","not_before":1764100000`},
		{Event{Kind: Grant, Subject: "alice.s.g"}, `"sub_id":{"format":"opaque","id":"alice.s.g"},"events":{"https://solegate.dev/event/grant-revoked":{"kind":"grant","subject":"alice.s.g","not_before":1764100000,"until":1764100000}}`},
		{Event{Kind: Token, Subject: "t"}, `"sub_id":{"format":"jwt_id","iss":"https://login.example.com","jti":"t"},"events":{"https://solegate.dev/event/token-revoked":{`},
		{Event{Kind: Client, Subject: "spa", Epoch: 1}, `"sub_id":{"format":"opaque","id":"spa"},"events":{"https://solegate.dev/event/client-revoked":{`},
		{Event{Kind: Key, Subject: "kid"}, `"sub_id":{"format":"opaque","id":"kid"},"events":{"https://solegate.dev/event/key-revoked":{`},
		{Event{Kind: All}, `"sub_id":{"format":"uri","uri":"https://login.example.com"},"events":{"https://solegate.dev/event/all-revoked":{"kind":"all","not_before":`},
	} {
		e := test.e
		if e.ID == "" {
			e.ID, e.NotBefore, e.Until = "e2", at, at
		}
		payload, err := message(e).Claims(EventType)
		if err != nil || !strings.Contains(string(payload), test.want) {
			t.Errorf("%s, %v\nwant in it %s", payload, err, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := map[string]string{
		EventType:     `{"iss":"` + issuer + `","aud":"` + audience + `","iat":1764100000,"jti":"e1","events":{"uri":{"kind":"grant","subject":"g","not_before":1,"until":2}},"feed":{"from":"1","to":"2"},"new":{}}`,
		HeartbeatType: `{"iss":"` + issuer + `","aud":"` + audience + `","iat":1764100000,"feed":{"from":"1","to":"2","new":1}}`,
		SnapshotType:  `{"iss":"` + issuer + `","aud":"` + audience + `","iat":1764100000,"events":[{"kind":"grant","subject":"g","not_before":1,"until":2}],"feed":{"from":"1","to":"2"}}`,
	}
	for typ, payload := range good {
		if _, err := Parse(typ, []byte(payload), issuer, audience); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		for other := range good {
			if _, err := Parse(other, []byte(payload), issuer, audience); other != typ && err == nil && (typ != HeartbeatType || other != SnapshotType) {
				t.Errorf("the payload of a %s is read as one of %s", typ, other)
			}
		}
		if _, err := Parse(typ, []byte(payload), issuer+"/", audience); err == nil {
			t.Errorf("%s: another issuer's is read", typ)
		}
		if _, err := Parse(typ, []byte(payload), issuer, "https://other.example.com"); err == nil {
			t.Errorf("%s: another audience's is read", typ)
		}
	}
	if _, err := Parse("at+jwt", []byte(good[HeartbeatType]), issuer, audience); err == nil {
		t.Error("an access token is read")
	}
	long := strings.Repeat("x", 4096)
	for _, test := range []struct{ typ, old, new string }{
		{HeartbeatType, `"iss"`, `"iss":"x","iss"`},
		{HeartbeatType, `"aud":"` + audience + `"`, `"aud":["` + audience + `"]`},
		{HeartbeatType, `1764100000`, `"1764100000"`},
		{HeartbeatType, `1764100000`, `0`},
		{HeartbeatType, `1764100000`, `1e9`},
		{HeartbeatType, `"iat":1764100000,`, ``},
		{HeartbeatType, `"from":"1"`, `"from":"3"`},
		{HeartbeatType, `"from":"1"`, `"from":1`},
		{HeartbeatType, `"from":"1"`, `"from":"1","from":"0"`},
		{HeartbeatType, `"to":"2"`, `"to":"2 "`},
		{HeartbeatType, `"to":"2"`, `"to":"` + long + `"`},
		{HeartbeatType, `"to":"2",`, ``},
		{HeartbeatType, `{"from":"1","to":"2","new":1}`, `null`},
		{HeartbeatType, `"feed":{"from":"1","to":"2","new":1}`, `"x":1`},
		{HeartbeatType, `"iat"`, `"more":true,"iat"`},
		{HeartbeatType, `"iat"`, `"events":[],"iat"`},
		{EventType, `"e1"`, `""`},
		{EventType, `"jti":"e1",`, ``},
		{EventType, `"from":"1"`, `"from":"2"`},
		{EventType, `"uri"`, `"one":{"kind":"grant","subject":"g","not_before":1,"until":2},"uri"`},
		{EventType, `{"uri":{"kind":"grant","subject":"g","not_before":1,"until":2}}`, `{}`},
		{EventType, `"kind":"grant"`, `"kind":"Grant"`},
		{EventType, `"kind":"grant",`, ``},
		{EventType, `"kind":"grant"`, `"kind":"all"`},
		{EventType, `"kind":"grant"`, `"kind":"user"`},
		{EventType, `"kind":"grant"`, `"kind":"client","epoch":0`},
		{EventType, `"kind":"grant"`, `"kind":"client","epoch":-1`},
		{EventType, `"kind":"grant"`, `"kind":"client","epoch":1.5`},
		{EventType, `"kind":"grant"`, `"kind":"client","epoch":18446744073709551616`},
		{EventType, `"subject":"g"`, `"subject":""`},
		{EventType, `"subject":"g"`, `"subject":"` + long + `"`},
		{EventType, `"subject":"g"`, `"subject":"g","subject":"h"`},
		{EventType, `"subject":"g"`, `"subject":null`},
		{EventType, `"not_before":1,`, ``},
		{EventType, `"until":2`, `"until":-2`},
		{EventType, `"until":2`, `"until":253402300800`},
		{EventType, `"until":2`, `"until":2,"cause":"` + long + `"`},
		{SnapshotType, `"iat"`, `"more":1,"iat"`},
		{SnapshotType, `"from":"1"`, `"from":"2"}` + `,"more":true,"x":{"y":1`},
		{SnapshotType, `[{`, `[null,{`},
		{SnapshotType, `[{`, `[[],{`},
		{SnapshotType, `[{"kind":"grant","subject":"g","not_before":1,"until":2}]`, `null`},
		{SnapshotType, `[{"kind":"grant","subject":"g","not_before":1,"until":2}]`, `{}`},
		{SnapshotType, `"kind":"grant"`, `"kind":"user"`},
		{SnapshotType, `[{`, `[` + strings.Repeat(`{"kind":"grant","subject":"g","not_before":1,"until":2},`, MaxPage) + `{`},
	} {
		payload := strings.Replace(good[test.typ], test.old, test.new, 1)
		if payload == good[test.typ] {
			t.Fatalf("%q is not in %s", test.old, payload)
		}
		if m, err := Parse(test.typ, []byte(payload), issuer, audience); err == nil {
			t.Errorf("%s: %.200s is read as %+v", test.typ, payload, m)
		}
	}
}

// TestClaimsRefusesWhatNobodyCouldRead: no server signs it.
func TestClaimsRefusesWhatNobodyCouldRead(t *testing.T) {
	change := func(do func(*Message)) *Message {
		m := message(blocked())
		do(m)
		return m
	}
	for name, m := range map[string]*Message{
		"no event":        message(),
		"two":             message(blocked(), blocked()),
		"no issuer":       change(func(m *Message) { m.Issuer = "" }),
		"no iat":          change(func(m *Message) { m.IssuedAt = time.Time{} }),
		"odd cursor":      change(func(m *Message) { m.To = "9\n" }),
		"long cursor":     change(func(m *Message) { m.To = Cursor(strings.Repeat("9", 65)) }),
		"backward":        change(func(m *Message) { m.To = "000" }),
		"no until":        change(func(m *Message) { m.Events[0].Until = time.Time{} }),
		"no UTF-8":        change(func(m *Message) { m.Events[0].Subject = "\xff" }),
		"epoch 0":         change(func(m *Message) { m.Events[0].Epoch = 0 }),
		"all with a name": change(func(m *Message) { m.Events[0].Kind = All }),
	} {
		if payload, err := m.Claims(EventType); err == nil {
			t.Errorf("%s: %s", name, payload)
		}
	}
	if _, err := message(make([]Event, MaxPage+1)...).Claims(SnapshotType); err == nil {
		t.Error("a page is too long")
	}
	if _, err := message().Claims("at+jwt"); err == nil {
		t.Error("it makes access tokens")
	}
}

func TestLargestPageFits(t *testing.T) {
	m := message()
	for range MaxPage {
		m.Events = append(m.Events, Event{Kind: Session, Subject: strings.Repeat("s", maxSubject), NotBefore: at, Until: at})
	}
	payload, err := m.Claims(SnapshotType)
	if size := len(payload)*4/3 + 1024; err != nil || size > MaxSnapshot {
		t.Errorf("a page of %d events has some %d bytes, at most %d are expected: %v", MaxPage, size, MaxSnapshot, err)
	}
}

func TestFollow(t *testing.T) {
	for _, test := range []struct {
		span     Span
		at, want Cursor
		err      error
	}{
		{Span{"", ""}, "", "", nil},
		{Span{"", "2"}, "", "2", nil},
		{Span{"1", "2"}, "1", "2", nil},
		{Span{"0", "2"}, "1", "2", nil},
		{Span{"1", "1"}, "1", "1", nil},            // nothing happened
		{Span{"1", "2"}, "2", "2", ErrRepeated},    // again
		{Span{"0", "1"}, "2", "2", ErrRepeated},    // long ago
		{Span{"1", "1"}, "2", "2", ErrRepeated},    // of a replica that is behind
		{Span{"2", "3"}, "1", "1", ErrGap},         // something was dropped
		{Span{"2", "2"}, "1", "1", ErrGap},         // even if nothing came after it
		{Span{"2", "3"}, "", "", ErrGap},           // the begin was dropped
		{Span{"19", "20"}, "100", "100", ErrGap},   // as texts
		{Span{"019", "020"}, "010", "010", ErrGap}, // of one width
		{Span{"019", "020"}, "019", "020", nil},    // of one width
		{Span{"019", "020"}, "01900", "020", nil},  // between them
		{Span{"019", "020"}, "0201", "0201", ErrRepeated},
	} {
		got, err := test.span.Follow(test.at)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%v at %q: %q, %v; %q, %v expected", test.span, test.at, got, err, test.want, test.err)
		}
	}
}

// TestFollowWithoutEvents: a heartbeat may say again that nothing happened. An
// event that comes again is one that somebody sent again.
func TestFollowWithoutEvents(t *testing.T) {
	still, event := &Message{Span: Span{"1", "3"}}, message(blocked())
	event.Span = still.Span
	for at, want := range map[Cursor]error{"": ErrGap, "1": nil, "2": nil, "3": nil, "4": ErrRepeated} {
		if to, err := still.Follow(at); !errors.Is(err, want) || err == nil && to != "3" {
			t.Errorf("a heartbeat at %q: %q, %v", at, to, err)
		}
		if at == "3" {
			want = ErrRepeated
		}
		if _, err := event.Follow(at); !errors.Is(err, want) {
			t.Errorf("an event at %q: %v", at, err)
		}
	}
}

func TestStream(t *testing.T) {
	var b []byte
	var want []string
	for i := range 3 {
		jws := fmt.Sprintf("a.%d.c", i)
		b = AppendComment(AppendMessage(b, Cursor(fmt.Sprint(i)), jws))
		want = append(want, jws)
	}
	if !strings.HasPrefix(string(b), "id: 0\ndata: a.0.c\n\n:\n\n") {
		t.Errorf("it is %q", b)
	}
	r := NewReader(iotest.OneByteReader(bytes.NewReader(b)))
	for _, w := range want {
		if got, err := r.Next(); got != w || err != nil {
			t.Fatalf("got %q, %v; %q expected", got, err, w)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for in, want := range map[string]string{
		"data:a\r\n\r\n":                         "a",
		"retry: 5\nevent: x\ndata: a\nid: 1\n\n": "a",
		"\n\n\ndata: a\n\n":                      "a",
		"id: 1\n\ndata: a\n\n":                   "a",
		"data\n\n":                               "",
	} {
		if got, err := NewReader(strings.NewReader(in)).Next(); got != want || err != nil {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "data: a", "data: a\n", "data: a\ndata: b\n\n", "data: " + strings.Repeat("a", MaxMessage+64) + "\n\n"} {
		if got, err := NewReader(strings.NewReader(in)).Next(); err == nil {
			t.Errorf("%.40q is read as %.40q", in, got)
		}
	}
}

// FuzzParse: what is read fits, and is read again as the same.
func FuzzParse(f *testing.F) {
	for _, typ := range []string{EventType, SnapshotType} {
		payload, err := message(blocked()).Claims(typ)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(typ, payload)
	}
	f.Add(HeartbeatType, []byte(`{"iss":"`+issuer+`","aud":"`+audience+`","iat":1,"feed":{}}`))
	f.Fuzz(func(t *testing.T, typ string, payload []byte) {
		m, err := Parse(typ, payload, issuer, audience)
		if err != nil {
			return
		}
		again, err := m.Claims(typ)
		if err != nil {
			t.Fatalf("%q was read as %+v, which is not written: %v", payload, m, err)
		}
		if !json.Valid(again) {
			t.Fatalf("%q is written", again)
		}
		back, err := Parse(typ, again, issuer, audience)
		if err != nil {
			t.Fatalf("%q was written as %q, which is not read: %v", payload, again, err)
		}
		if len(m.Events) == 0 {
			m.Events, back.Events = nil, nil
		}
		if typ != EventType {
			for i := range m.Events {
				m.Events[i].ID, back.Events[i].ID = "", ""
			}
		}
		if !reflect.DeepEqual(m, back) {
			t.Fatalf("%q: %+v, and then %+v", payload, m, back)
		}
	})
}

// FuzzReader: what nobody could send ends with an error, in bounded memory.
func FuzzReader(f *testing.F) {
	f.Add([]byte("id: 1\ndata: a.b.c\n\n:\n\ndata: d\n\n"))
	f.Add([]byte("data:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		for n := 0; ; n++ {
			jws, err := r.Next()
			if err != nil {
				return
			}
			if strings.ContainsRune(jws, '\n') || len(jws) > MaxMessage+64 || n > len(stream) {
				t.Fatalf("message %d is %q", n, jws)
			}
		}
	})
}
