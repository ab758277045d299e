package strict

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"testing"
)

// FuzzObject holds Object to encoding/json: what it reads, encoding/json reads
// the same.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, ` {"a":1}`, `{ "a" : "b" , "c" : [1,{"d":2}] }`, `{"a":"\\"","b":{"a":1}}`, `{"a":1,"a":2}`, `{"a":1}x`, `{"a":tru`, "{\"a\":1\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := map[string]string{}
		err := Object(data, func(name, value string) error {
			got[name] = value
			return nil
		})
		if err != nil {
			return
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(data, &raw); err != nil {
			t.Fatalf("%q was read, encoding/json says %v", data, err)
		}
		want := map[string]string{}
		for name, value := range raw {
			want[name] = string(value)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", data, got, want)
		}
	})
}

func TestObjectRefuses(t *testing.T) {
	read := func(s string) error { return Object([]byte(s), func(string, string) error { return nil }) }
	if err := read(`{"kid":1,"typ":{"a":1,"a":2}}`); err != nil {
		t.Errorf("good: %v", err)
	}
	for _, s := range []string{
		``, `null`, `[]`, `"x"`, ` {}`, `{} {}`, `{`, `{"a":1,}`, "{\"a\":\"\xff\"}",
		`{"kid":1,"kid":2}`, `{"kid":1,"KID":2}`, `{"kid":1,"` + "\u212a" + `id":2}`, `{"sub":1,"` + "\u017f" + `ub":2}`, `{"\u006bid":1}`,
	} {
		if err := read(s); err == nil {
			t.Errorf("%q is read", s)
		}
	}
	stop := errors.New("stop")
	if err := Object([]byte(`{"a":1,"b":2}`), func(string, string) error { return stop }); err != stop {
		t.Errorf("the caller's error is %v", err)
	}
}

func TestCompact(t *testing.T) {
	jws, err := Compact("eyJ9.e30.AQI")
	if err != nil || string(jws.Header) != `{"}` || string(jws.Payload) != `{}` || !bytes.Equal(jws.Signature, []byte{1, 2}) || string(jws.Signed) != "eyJ9.e30" {
		t.Errorf("got %+v, %v", jws, err)
	}
	for _, s := range []string{"", ".", "e30.e30", "e30.e30.e30.e30", "e30.e30.AQI=", "e30.e30.AQJ", "e30\n.e30.AQI", "e30.e30.AQI\r", "e30.e30.+QI", " e30.e30.AQI", "e30.e30.A"} {
		if jws, err := Compact(s); err == nil {
			t.Errorf("%q is read as %+v", s, jws)
		}
	}
}

func TestVerifyTakesTheKeysAlgorithmOnly(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signature := ed25519.Sign(private, []byte("x"))
	for algorithm, want := range map[string]bool{"EdDSA": true, "Ed25519": true, "ES256": false, "RS256": false, "none": false, "": false} {
		if got := Verify(algorithm, public, []byte("x"), signature); got != want {
			t.Errorf("%q: %v, %v expected", algorithm, got, want)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	r, s, err := ecdsa.Sign(rand.Reader, ec, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature64 := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	if !Verify("ES256", &ec.PublicKey, []byte("x"), signature64) || Verify("PS256", &ec.PublicKey, []byte("x"), signature64) || Verify("ES256", &ec.PublicKey, []byte("x"), append(signature64, 0)) {
		t.Error("ES256 does not verify, or verifies as something else")
	}
	if Verify("EdDSA", public, []byte("y"), signature) || Verify("EdDSA", nil, []byte("x"), signature) {
		t.Error("another text or no key verifies")
	}
}
