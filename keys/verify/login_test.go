package verify_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

func TestStepUp(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	const strong, password = "urn:solegate:acr:passkey", "urn:solegate:acr:password"
	ago := func(seconds int64) map[string]any { return map[string]any{"auth_time": w.clock.Now().Unix() - seconds} }
	with := func(changes map[string]any, acr string) map[string]any { changes["acr"] = acr; return changes }
	for _, x := range []struct {
		name   string
		login  verify.Login
		claims map[string]any
		status int
		wants  string
	}{
		{"fresh", verify.Login{MaxAge: time.Minute}, ago(0), 200, ""},
		{"fresh within the leeway", verify.Login{MaxAge: time.Minute}, ago(70), 200, ""},
		{"too old", verify.Login{MaxAge: time.Minute}, ago(71), 401, `error="insufficient_user_authentication", error_description="A more recent login is required.", max_age="60"`},
		{"of the future", verify.Login{MaxAge: time.Minute}, ago(-11), 401, `max_age="60"`},
		{"not said", verify.Login{MaxAge: time.Minute}, nil, 401, `max_age="60"`},
		{"strong", verify.Login{ACR: []string{strong}}, with(ago(9999), strong), 200, ""},
		{"second of two", verify.Login{ACR: []string{strong, password}}, with(ago(9999), password), 200, ""},
		{"weak", verify.Login{ACR: []string{strong}}, with(ago(0), password), 401, `error="insufficient_user_authentication", error_description="Another kind of login is required.", acr_values="` + strong + `"`},
		{"no acr", verify.Login{ACR: []string{strong, password}}, ago(0), 401, `acr_values="` + strong + " " + password + `"`},
		{"acr without a login", verify.Login{ACR: []string{strong}}, map[string]any{"acr": strong}, 401, `acr_values="` + strong + `"`},
		{"weak and old", verify.Login{MaxAge: time.Hour, ACR: []string{strong}}, with(ago(9999), password), 401, `max_age="3600", acr_values="` + strong + `"`},
	} {
		api := w.v.Require("openid")(w.v.RequireLogin(x.login)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
		r := httptest.NewRequest("GET", "/notes", nil)
		r.Header.Set("Authorization", "Bearer "+w.Token(x.claims))
		bearer := serve(api, r)
		c.token = w.BoundToken(c.ProofKey, x.claims)
		bound := serve(api, c.request(c.proof(nil)))
		for scheme, rec := range map[string]*httptest.ResponseRecorder{"Bearer ": bearer, "DPoP ": bound} {
			challenges := rec.Header()["Www-Authenticate"]
			switch {
			case rec.Code != x.status:
				t.Errorf("%s, %s: %d, %d expected", x.name, scheme, rec.Code, x.status)
			case x.wants != "" && (len(challenges) != 1 || !strings.HasPrefix(challenges[0], scheme) || !strings.HasSuffix(challenges[0], x.wants)):
				t.Errorf("%s, %s: challenges %q", x.name, scheme, challenges)
			case x.wants != "" && !strings.Contains(challenges[0], `resource_metadata="`):
				t.Errorf("%s, %s: no resource_metadata in %q", x.name, scheme, challenges)
			}
		}
	}
}

func TestStepUpThatCantBe(t *testing.T) {
	w := newWorld(t)
	panics := func(f func()) (did bool) {
		defer func() { did = recover() != nil }()
		f()
		return
	}
	for name, l := range map[string]verify.Login{
		"nothing":            {},
		"negative":           {MaxAge: -time.Second},
		"part of a second":   {MaxAge: 1500 * time.Millisecond},
		"empty acr":          {ACR: []string{""}},
		"acr with a space":   {ACR: []string{"a b"}},
		"acr with a quote":   {ACR: []string{`a"`}},
		"acr with an escape": {ACR: []string{`a\`}},
		"acr beyond ASCII":   {ACR: []string{"ä"}},
	} {
		if !panics(func() { w.v.RequireLogin(l) }) {
			t.Errorf("%s: accepted", name)
		}
	}
	outside := w.v.RequireLogin(verify.Login{MaxAge: time.Minute})(http.NotFoundHandler())
	if !panics(func() { serve(outside, httptest.NewRequest("GET", "/", nil)) }) {
		t.Error("a request that did not come through Require was looked at")
	}
}
