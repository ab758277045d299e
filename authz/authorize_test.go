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
// or empty for a page of ours. Pushed are those that fail likewise when they
// are pushed.
var FailingCases = []struct {
	Check   string
	Changes []string
	Error   string
	Pushed  bool
}{
	{"parametersOnce", []string{"scope", strings.Repeat("x", maxParameter+1)}, "", true},
	{"pushedRequest", []string{"request_uri", requestURIPrefix + "x"}, "", false},
	{"knownClient", []string{"client_id", "nobody"}, "", true},
	{"knownClient", []string{"client_id", ""}, "", true},
	{"redirectURI", []string{"redirect_uri", "https://evil.example/"}, "", true},
	{"redirectURI", []string{"redirect_uri", ""}, "", true},
	{"stateLength", []string{"state", strings.Repeat("x", maxState+1)}, "invalid_request", true},
	{"mustPush", []string{"client_id", "pushes"}, "invalid_request", false},
	{"noRequestObject", []string{"request", "x"}, "request_not_supported", true},
	{"noRequestObject", []string{"request_uri", "https://spa.example.com/request"}, "request_uri_not_supported", false},
	{"responseType", []string{"response_type", "token"}, "unsupported_response_type", true},
	{"responseMode", []string{"response_mode", "fragment"}, "invalid_request", true},
	{"nonce", []string{"nonce", strings.Repeat("x", maxNonce+1)}, "invalid_request", true},
	{"scope", []string{"scope", "openid other"}, "invalid_scope", true},
	{"pkce", []string{"code_challenge", ""}, "invalid_request", true},
	{"dpopKey", []string{"dpop_jkt", "x"}, "invalid_request", true},
	{"dpopKey", []string{"dpop_jkt", strings.Repeat("A", 43)}, "invalid_request", true},
	{"resource", []string{"resource", "https://other.example"}, "invalid_target", true},
	{"prompt", []string{"prompt", "none consent"}, "invalid_request", true},
	{"maxAge", []string{"max_age", "soon"}, "invalid_request", true},
	{"acrValues", []string{"acr_values", "urn:unknown"}, "unmet_authentication_requirements", true},
	{"idTokenHint", []string{"id_token_hint", "x"}, "invalid_request", true},
}
