package authz

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// TestEachCheckHasAFailingCase walks the table: no row without a case in
// TestChecks, so that a check that is taken out or never fails is noticed.
func TestEachCheckHasAFailingCase(t *testing.T) {
	for _, c := range checks {
		name := checkName(c.check)
		found := false
		for _, f := range FailingCases {
			found = found || f.Check == name
		}
		if !found {
			t.Errorf("%s has no failing case", name)
		}
		if c.at == 0 {
			t.Errorf("%s is at no entrance", name)
		}
	}
}

func checkName(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "-fm")
}

// FailingCases are authorization requests that fail at one check: the changes
// are pairs of name and value, and Error is the code that the client is sent,
// or empty for a page of ours.
var FailingCases = []struct {
	Check   string
	Changes []string
	Error   string
}{
	{"parametersOnce", []string{"scope", strings.Repeat("x", maxParameter+1)}, ""},
	{"knownClient", []string{"client_id", "nobody"}, ""},
	{"knownClient", []string{"client_id", ""}, ""},
	{"redirectURI", []string{"redirect_uri", "https://evil.example/"}, ""},
	{"redirectURI", []string{"redirect_uri", ""}, ""},
	{"stateLength", []string{"state", strings.Repeat("x", maxState+1)}, "invalid_request"},
	{"noRequestObject", []string{"request", "x"}, "request_not_supported"},
	{"responseType", []string{"response_type", "token"}, "unsupported_response_type"},
	{"responseMode", []string{"response_mode", "fragment"}, "invalid_request"},
	{"pkce", []string{"code_challenge", ""}, "invalid_request"},
	{"scope", []string{"scope", "openid other"}, "invalid_scope"},
	{"resource", []string{"resource", "https://other.example"}, "invalid_target"},
	{"nonce", []string{"nonce", strings.Repeat("x", maxNonce+1)}, "invalid_request"},
	{"prompt", []string{"prompt", "none consent"}, "invalid_request"},
	{"maxAge", []string{"max_age", "soon"}, "invalid_request"},
	{"idTokenHint", []string{"id_token_hint", "x"}, "invalid_request"},
}
