package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// headerOf decodes the header of a JWT.
func headerOf(t *testing.T, token string) map[string]any {
	t.Helper()
	text, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h
}
