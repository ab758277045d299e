package dpop_test

import (
	"strings"
	"testing"

	"github.com/solegate/solegate/keys/verify/dpop"
)

// TestThumbprint takes the examples of RFC 7638 §3.1 and RFC 8037 A.3.
func TestThumbprint(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for jwk, want := range map[string]string{
		`{"kty":"RSA","n":"` + n + `","e":"AQAB","kid":"2011-04-29"}`:                     "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		if got, err := dpop.Thumbprint([]byte(jwk)); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", jwk, got, err, want)
		}
	}
	for _, jwk := range []string{``, `{}`, `{"kty":"oct","k":"AAAA"}`, `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"` + strings.Repeat("A", 5<<10) + `"}`} {
		if got, err := dpop.Thumbprint([]byte(jwk)); err == nil {
			t.Errorf("%.40s has the thumbprint %s", jwk, got)
		}
	}
}

func TestValidThumbprint(t *testing.T) {
	const good = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	if !dpop.ValidThumbprint(good) {
		t.Error("a thumbprint is refused")
	}
	for _, bad := range []string{"", good[:42], good + "A", good + "=", spare(good), "+" + good[1:], "\n" + good[:42], " " + good[1:]} {
		if dpop.ValidThumbprint(bad) {
			t.Errorf("%q passes", bad)
		}
	}
}
