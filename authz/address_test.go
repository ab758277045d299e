package authz

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestAddress(t *testing.T) {
	s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:1", nil, "192.0.2.1"},
		{"192.0.2.1:1", []string{"203.0.113.9"}, "192.0.2.1"}, // a stranger's word
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"1.2.3.4, 203.0.113.9"}, "203.0.113.9"}, // what the client wrote before is not believed
		{"10.0.0.1:1", []string{"1.2.3.4", "203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"garbage, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1:1", []string{"203.0.113.9, garbage"}, "10.0.0.1"},
		{"[::ffff:10.0.0.1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[fd00::1]:1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"nonsense", []string{"203.0.113.9"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := s.address(r); got.String() != c.want {
			t.Errorf("%s %q: %s, %s expected", c.peer, c.forwarded, got, c.want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Add("10.0.0.1:1", "1.2.3.4, 10.0.0.2")
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		s.address(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}}})
	})
}
