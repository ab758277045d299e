package guard_test

import (
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/guard"
)

func TestConfigTellsEveryMistake(t *testing.T) {
	c := guard.Config{
		Verify: verify.Config{Issuer: "http://login.example.com", Audience: audience}, Upstream: "127.0.0.1:3000", ForwardAuth: "nginx", Timeout: -1,
		Routes: []guard.Route{
			{Pattern: "GET /a"}, {Pattern: "GET /a"}, {Pattern: "GET /A"}, {Pattern: "GET a"}, {Pattern: "get /b"}, {Pattern: "GET /{x"},
			{Pattern: "GET /b/{x}/c"}, {Pattern: "GET /b/d/{y}"}, {Pattern: "GET /c", Public: true, Scopes: []string{"x"}},
			{Pattern: "GET /d//e"}, {Pattern: "GET /d", Scopes: []string{"a b"}}, {Pattern: "GET /e", Login: verify.Login{MaxAge: time.Millisecond}}, {Pattern: "GET /f;x"},
		},
	}
	got := map[string]string{}
	for _, p := range c.Problems() {
		got[p.Field] += p.Text
	}
	for field, want := range map[string]string{
		"Verify": "must be https", "Upstream": "http, https or h2c", "ForwardAuth": "beside Upstream", "Timeout": "more than none",
		"Routes[1]": `the earlier "GET /a"`, "Routes[2]": "but for upper and lower case", "Routes[3]": "a method and a path",
		"Routes[4]": "capital letters", "Routes[5]": "no pattern", "Routes[7]": `the earlier "GET /b/{x}/c"`, "Routes[8]": "choose one",
		"Routes[9]": "empty segment", "Routes[10]": "no scope", "Routes[11]": "whole seconds", "Routes[12]": "no request gets here",
	} {
		if !strings.Contains(got[field], want) {
			t.Errorf("%s: %q, %q expected", field, got[field], want)
		}
		delete(got, field)
	}
	if len(got) != 0 {
		t.Errorf("also %q", got)
	}
	if _, err := guard.New(t.Context(), c); err == nil {
		t.Error("New takes it")
	}
	for _, text := range []string{"127.0.0.1:3000", "ftp://a", "http://", "http://a/b", "http://u@a", "http://a?b", "http://a#b", ":"} {
		c := guard.Config{Verify: verify.Config{Issuer: "https://login.example.com", Audience: audience}, Upstream: text, Routes: []guard.Route{{Pattern: "/a"}}}
		if p := c.Problems(); len(p) != 1 || p[0].Field != "Upstream" {
			t.Errorf("upstream %q: %v", text, p)
		}
	}
	c = guard.Config{Verify: verify.Config{Issuer: "https://login.example.com", Audience: audience}, ForwardAuth: "both"}
	if p := c.Problems(); len(p) != 2 || p[0].Field != "ForwardAuth" || p[1].Field != "Routes" {
		t.Errorf("%v", p)
	}
}
