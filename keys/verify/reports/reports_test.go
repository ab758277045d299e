package reports

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func batch(n int) Batch {
	b := Batch{ID: "0123456789abcdef"}
	for i := range n {
		b.Reports = append(b.Reports, Report{
			Subject: fmt.Sprintf("alice-%d", i), Client: "spa", Session: "s", Key: base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)),
			Kind: Limit, Reason: "orders", Count: 42, First: time.Unix(1_800_000_000, 0), Last: time.Unix(1_800_000_009, 0),
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		})
	}
	return b
}

func TestBatchComesThroughAsItIs(t *testing.T) {
	for _, assertion := range []string{"", "aa.bb.cc"} {
		sent := batch(3)
		sent.Reports[1].Session, sent.Reports[1].Key, sent.Reports[1].Addresses, sent.Reports[1].Kind = "", "", nil, Judgement
		body, err := sent.Encode(assertion)
		if err != nil {
			t.Fatal(err)
		}
		got, asserted, err := Parse(body)
		if err != nil || asserted != assertion || !reflect.DeepEqual(got, sent) {
			t.Errorf("%v %q\n%+v\n%+v", err, asserted, got, sent)
		}
	}
	one := batch(1)
	body, err := one.Encode("a.b.c")
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"id":"0123456789abcdef","reports":[{"subject":"alice-0","client":"spa","session":"s","key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","kind":"limit","reason":"orders","count":42,"first":1800000000,"last":1800000009,"addresses":["192.0.2.1","2001:db8::1"]}],"client_assertion_type":"urn:ietf:params:oauth:client-assertion-type:jwt-bearer","client_assertion":"a.b.c"}` + "\n"
	if string(body) != golden {
		t.Errorf("written as %s", body)
	}
}

// TestLargestBatchFits: whatever an API may report, one batch takes it.
func TestLargestBatchFits(t *testing.T) {
	b := batch(MaxReports)
	b.ID = strings.Repeat("x", maxID)
	for i := range b.Reports {
		r := &b.Reports[i]
		r.Subject, r.Client, r.Session = strings.Repeat(`"`, 256), strings.Repeat(`\`, 256), strings.Repeat("<", 256)
		r.Kind, r.Reason, r.Count = Judgement, strings.Repeat("&", 64), MaxCount
		r.Addresses = nil
		for j := range MaxAddresses {
			r.Addresses = append(r.Addresses, netip.MustParseAddr(fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%x", 0x6660+j)))
		}
	}
	body, err := b.Encode(strings.Repeat("a", maxAssertion))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Parse(body); err != nil || len(body) > MaxBytes {
		t.Errorf("%d bytes: %v", len(body), err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := batch(1)
	raw, err := good.Encode("a.b.c")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(raw))
	if _, _, err := Parse([]byte(strings.Replace(text, `{"id"`, `{"new":{"a":1},"id"`, 1))); err != nil {
		t.Errorf("a member that is not known: %v", err)
	}
	one := strings.TrimSuffix(strings.SplitN(strings.SplitN(text, "[", 2)[1], "}]", 2)[0], "}") + "}"
	for _, c := range []struct{ name, old, new string }{
		{"nothing", text, ""},
		{"a list", text, "[]"},
		{"something behind", text, text + "x"},
		{"too long", `"alice-0"`, `"` + strings.Repeat("a", MaxBytes) + `"`},
		{"id twice", `{"id"`, `{"ID":"x","id"`},
		{"no id", `"id":"0123456789abcdef",`, ``},
		{"short id", `0123456789abcdef`, `0123456789abcde`},
		{"long id", `0123456789abcdef`, strings.Repeat("a", 65)},
		{"id with a space", `0123456789abcdef`, `0123456789 abcdef`},
		{"id as a number", `"0123456789abcdef"`, `1234567890123456`},
		{"no reports", one, ``},
		{"reports as an object", `[` + one + `]`, one},
		{"too many", one, strings.Repeat(one+",", 100) + one},
		{"a report that is none", one, one + `,1`},
		{"no assertion type", `"client_assertion_type":"` + AssertionType + `",`, ``},
		{"another assertion type", AssertionType, "urn:other"},
		{"no assertion", `,"client_assertion":"a.b.c"`, ``},
		{"long assertion", `a.b.c`, strings.Repeat("a", maxAssertion+1)},
		{"no subject", `"subject":"alice-0",`, ``},
		{"no client", `"client":"spa",`, ``},
		{"subject twice", `"subject":"alice-0"`, `"subject":"alice-0","Subject":"bob"`},
		{"long subject", `alice-0`, strings.Repeat("a", 257)},
		{"subject with a line break", `alice-0`, `alice\n-0`},
		{"subject that turns around", `alice-0`, "alice\u202e-0"},
		{"subject as a number", `"alice-0"`, `1`},
		{"key", `"key":"AQ`, `"key":"A`},
		{"kind", `"kind":"limit"`, `"kind":"other"`},
		{"no kind", `"kind":"limit",`, ``},
		{"reason with a quote", `"reason":"orders"`, `"reason":"or\"ders"`},
		{"reason beyond ASCII", `"reason":"orders"`, `"reason":"ördérs"`},
		{"long reason", `"reason":"orders"`, `"reason":"` + strings.Repeat("a", 65) + `"`},
		{"no reason", `"reason":"orders",`, ``},
		{"count of none", `"count":42`, `"count":0`},
		{"negative count", `"count":42`, `"count":-1`},
		{"fraction", `"count":42`, `"count":1.5`},
		{"exponent", `"count":42`, `"count":1e3`},
		{"huge count", `"count":42`, `"count":1000000001`},
		{"count beyond 64 bits", `"count":42`, `"count":99999999999999999999`},
		{"count as a text", `"count":42`, `"count":"42"`},
		{"no first", `"first":1800000000,`, ``},
		{"last before first", `"last":1800000009`, `"last":1799999999`},
		{"last of never", `"last":1800000009`, `"last":253402300800`},
		{"no address", `"192.0.2.1"`, `"here"`},
		{"address with a zone", `"2001:db8::1"`, `"fe80::1%eth0"`},
		{"address in capitals", `"2001:db8::1"`, `"2001:DB8::1"`},
		{"mapped address", `"192.0.2.1"`, `"::ffff:192.0.2.1"`},
		{"an address twice", `"2001:db8::1"`, `"192.0.2.1"`},
		{"nine addresses", `"192.0.2.1"`, `"192.0.2.1","192.0.2.2","192.0.2.3","192.0.2.4","192.0.2.5","192.0.2.6","192.0.2.7","192.0.2.8"`},
	} {
		if strings.Count(text, c.old) != 1 {
			t.Fatalf("%s: the good one has %d times %s", c.name, strings.Count(text, c.old), c.old)
		}
		if b, _, err := Parse([]byte(strings.Replace(text, c.old, c.new, 1))); err == nil || b.ID != "" {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// FuzzParse: what is read can be written, and is read the same again.
func FuzzParse(f *testing.F) {
	for n := range 3 {
		b := batch(n + 1)
		body, err := b.Encode(strings.Repeat("a.b.c", n%2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"id":"0123456789abcdef","reports":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, assertion, err := Parse(body)
		if err != nil {
			if b.ID != "" || b.Reports != nil || assertion != "" {
				t.Fatal("there is a batch beside the error")
			}
			return
		}
		again, err := b.Encode(assertion)
		if err != nil {
			t.Fatalf("%q was read and can't be written: %v", body, err)
		}
		b2, assertion2, err := Parse(again)
		if err != nil || assertion2 != assertion || !reflect.DeepEqual(b, b2) {
			t.Fatalf("%q and %q: %v", body, again, err)
		}
	})
}
