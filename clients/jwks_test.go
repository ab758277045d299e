package clients_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/clients"
)

// jwk is a key as JSON has it.
type jwk map[string]any

// with returns a copy with members set, in pairs of name and value; nil takes
// one away.
func (k jwk) with(pairs ...any) jwk {
	k = maps.Clone(k)
	for i := 0; i < len(pairs); i += 2 {
		if k[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
			delete(k, pairs[i].(string))
		}
	}
	return k
}

func set(list ...jwk) string {
	text, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signers are a key of each kind, made once.
var signers = sync.OnceValue(func() (s struct {
	ec *ecdsa.PrivateKey
	ed ed25519.PrivateKey
	rs *rsa.PrivateKey
}) {
	var errs [3]error
	s.ec, errs[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, s.ed, errs[1] = ed25519.GenerateKey(rand.Reader)
	s.rs, errs[2] = rsa.GenerateKey(rand.Reader, 2048)
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return s
})

// public is the key in the form that go-jose, a library that clients use,
// gives it.
func public(t testing.TB, key any) jwk {
	t.Helper()
	text, err := jose.JSONWebKey{Key: key}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var k jwk
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysCheckWhatTheirOwnersSign(t *testing.T) {
	s := signers()
	keys, err := clients.ParseJWKS([]byte(set(
		public(t, s.ec.Public()).with("kid", "a", "use", "sig", "alg", "ES256"),
		public(t, s.ed.Public()).with("kid", "b", "key_ops", []string{"verify"}, "ext", true),
		public(t, s.rs.Public()).with("kid", "c", "alg", "PS256"))))
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	sum := sha256.Sum256([]byte("an assertion"))
	for i, want := range []struct {
		id         string
		algorithms []string
		signed     func(crypto.PublicKey) bool
	}{
		{"a", []string{"ES256"}, func(k crypto.PublicKey) bool {
			signature, err := ecdsa.SignASN1(rand.Reader, s.ec, sum[:])
			return err == nil && ecdsa.VerifyASN1(k.(*ecdsa.PublicKey), sum[:], signature)
		}},
		{"b", []string{"EdDSA", "Ed25519"}, func(k crypto.PublicKey) bool {
			return ed25519.Verify(k.(ed25519.PublicKey), sum[:], ed25519.Sign(s.ed, sum[:]))
		}},
		{"c", []string{"PS256"}, func(k crypto.PublicKey) bool {
			signature, err := rsa.SignPSS(rand.Reader, s.rs, crypto.SHA256, sum[:], nil)
			return err == nil && rsa.VerifyPSS(k.(*rsa.PublicKey), crypto.SHA256, sum[:], signature, nil) == nil
		}},
	} {
		if k := keys[i]; k.ID != want.id || !slices.Equal(k.Algorithms, want.algorithms) || !want.signed(k.Public) {
			t.Errorf("key %d: %q for %v, want %q for %v and a signature that fits", i, k.ID, k.Algorithms, want.id, want.algorithms)
		}
	}
}

func TestParseJWKS(t *testing.T) {
	s := signers()
	ec, ed, rs := public(t, s.ec.Public()), public(t, s.ed.Public()), public(t, s.rs.Public())
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits int) string { // no key, but of its length
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return b64(n.Add(n, big.NewInt(1)).Bytes())
	}
	many := func(n int) (list []jwk) {
		for i := range n {
			list = append(list, ed.with("kid", fmt.Sprint(i)))
		}
		return list
	}

	for name, text := range map[string]string{
		"one without kid": set(ec), "no alg": set(ed), "alg Ed25519": set(ed.with("alg", "Ed25519")), "alg EdDSA": set(ed.with("alg", "EdDSA")),
		"4096 bits": set(rs.with("n", modulus(4096))), "16 keys": set(many(16)...), "unknown members": set(ec.with("x5t", "x", "ext", true)),
		"white space": " \n" + set(ec) + "\n", "other members of the set": `{"version":1,` + set(ec)[1:],
	} {
		if _, err := clients.ParseJWKS([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	x, y := ec["x"].(string), ec["y"].(string)
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "it is empty"},
		"blank":                {" \n", "it is empty"},
		"no JSON":              {"{", "no JSON Web Key Set"},
		"not UTF-8":            {"{\"keys\":[],\"\xff\":1}", "no JSON Web Key Set"},
		"a list":               {"[]", "no JSON Web Key Set"},
		"null":                 {"null", "no JSON Web Key Set"},
		"null keys":            {`{"keys":null}`, "no key"},
		"keys of no objects":   {`{"keys":[1]}`, "a list of objects"},
		"Keys":                 {strings.Replace(set(ec), "keys", "Keys", 1), "no JSON Web Key Set"},
		"no key":               {`{"keys":[]}`, "no key"},
		"a null key":           {`{"keys":[null]}`, "of a kind"},
		"one key, no set":      {set(ec)[9 : len(set(ec))-2], `write {"keys":[...]} around it`},
		"PEM":                  {"-----BEGIN PUBLIC KEY-----\n", "it is PEM"},
		"two documents":        {set(ec) + set(ec), "no JSON Web Key Set"},
		"17 keys":              {set(many(17)...), "17 keys"},
		"too long":             {set(ec) + strings.Repeat(" ", 16<<10), "bytes"},
		"private EC":           {set(public(t, s.ec)), "private"},
		"private RSA":          {set(public(t, s.rs)), "private"},
		"private Ed25519":      {set(public(t, s.ed)), "private"},
		"private, other case":  {set(ec.with("D", "AQ")), "private"},
		"only p":               {set(rs.with("p", "AQ")), "private"},
		"other primes":         {set(rs.with("oth", []any{})), "private"},
		"null d":               {`{"keys":[{"d":null,` + set(ec)[10:], "private"},
		"symmetric":            {set(jwk{"kty": "oct", "k": b64(make([]byte, 32))}), "symmetric"},
		"symmetric without k":  {set(jwk{"kty": "oct"}), "of a kind"},
		"no kty":               {set(ec.with("kty", nil)), "of a kind"},
		"kty ec":               {set(ec.with("kty", "ec")), "of a kind"},
		"P-384":                {set(public(t, p384.Public())), "of a kind"},
		"X25519":               {set(ed.with("crv", "X25519")), "of a kind"},
		"Ed448":                {set(ed.with("crv", "Ed448")), "of a kind"},
		"not on the curve":     {set(ec.with("x", y, "y", x)), "no point"},
		"the point at zero":    {set(ec.with("x", b64(make([]byte, 32)), "y", b64(make([]byte, 32)))), "no point"},
		"short x":              {set(ec.with("x", x[:40])), "32 bytes"},
		"no y":                 {set(ec.with("y", nil)), "32 bytes"},
		"padded":               {set(ec.with("x", x+"=")), "base64url"},
		"a newline":            {set(ec.with("x", x[:8]+"\n"+x[8:])), "base64url"},
		"loose bits":           {set(ed.with("x", ed["x"].(string)[:42]+"_")), "base64url"},
		"x is a number":        {set(ed.with("x", 1)), "no text"},
		"short Ed25519":        {set(ed.with("x", b64(make([]byte, 31)))), "32 bytes"},
		"1024 bits":            {set(rs.with("n", modulus(1024))), "1024 bits"},
		"4097 bits":            {set(rs.with("n", modulus(4097))), "4097 bits"},
		"even n":               {set(rs.with("n", b64(append([]byte{0x80}, make([]byte, 255)...)))), "no RSA key"},
		"e is 1":               {set(rs.with("e", "AQ")), "no RSA key"},
		"even e":               {set(rs.with("e", b64([]byte{1, 0, 0}))), "no RSA key"},
		"huge e":               {set(rs.with("e", b64([]byte{1, 0, 0, 0, 1}))), "no RSA key"},
		"no e":                 {set(rs.with("e", nil)), "no RSA key"},
		"for encryption":       {set(ec.with("use", "enc")), "use"},
		"empty use":            {set(ec.with("use", "")), "use"},
		"null use":             {set(ec.with("use", nil))[:10] + `"use":null,` + set(ec)[10:], "use"},
		"key_ops of signing":   {set(ec.with("key_ops", []string{"sign"})), "key_ops"},
		"key_ops a text":       {set(ec.with("key_ops", "verify")), "key_ops"},
		"RS256":                {set(rs.with("alg", "RS256")), "PS256 is expected"},
		"alg of another key":   {set(ec.with("alg", "PS256")), "ES256 is expected"},
		"alg none":             {set(ec.with("alg", "none")), "ES256 is expected"},
		"alg a list":           {set(ec.with("alg", []string{"ES256"})), "no text"},
		"empty alg":            {set(ec.with("alg", "")), "ES256 is expected"},
		"kid twice":            {set(ec.with("kid", "a"), ed.with("kid", "a")), `key 2: another key has its kid "a"`},
		"two, one without kid": {set(ec.with("kid", "a"), ed), "key 2: it has no kid"},
		"empty kid":            {set(ec.with("kid", "")), "kid"},
		"a number as kid":      {set(ec.with("kid", 1)), "no text"},
		"long kid":             {set(ec.with("kid", strings.Repeat("k", 201))), "kid"},
	} {
		keys, err := clients.ParseJWKS([]byte(c.text))
		if err == nil || keys != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d keys, %v; an error with %q expected", name, len(keys), err, c.want)
		}
	}
	if _, err := clients.ParseJWKS([]byte(set(ec.with("kid", "a", "use", "enc"), ed.with("kid", "b", "alg", "x")))); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("all mistakes at once, a line each: %v", err)
	}
}

// TestNoErrorShowsAKey: who gives a private key by mistake does not find it in
// a log.
func TestNoErrorShowsAKey(t *testing.T) {
	s := signers()
	private := public(t, s.ec)
	for _, text := range []string{
		set(private), set(private.with("x", 1)), set(private.with("kty", "x")), "[" + set(private) + "]", set(private)[9:], set(private) + "}",
		set(private)[9 : len(set(private))-2],
	} {
		if _, err := clients.ParseJWKS([]byte(text)); err == nil || strings.Contains(err.Error(), private["d"].(string)) {
			t.Errorf("%v", err)
		}
	}
}

// FuzzParseJWKS: what is accepted are public keys that go-jose, which checks
// signatures with them, takes for the same.
func FuzzParseJWKS(f *testing.F) {
	s := signers()
	f.Add([]byte(set(public(f, s.ec.Public()).with("kid", "a"), public(f, s.rs.Public()).with("kid", "b", "use", "sig"))))
	f.Add([]byte(set(public(f, s.ed.Public()).with("alg", "Ed25519", "key_ops", []string{"verify"}))))
	f.Add([]byte(set(public(f, s.ed))))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AQ"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := clients.ParseJWKS(text)
		if (err == nil) == (len(keys) == 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		ids := map[string]bool{}
		for _, k := range keys {
			if ids[k.ID] || k.ID == "" && len(keys) > 1 {
				t.Errorf("kid %q of %d keys", k.ID, len(keys))
			}
			ids[k.ID] = true
			if same := (&jose.JSONWebKey{Key: k.Public}); !same.Valid() || !same.IsPublic() || len(k.Algorithms) == 0 {
				t.Errorf("%T for %v was accepted", k.Public, k.Algorithms)
			}
		}
		if err != nil {
			return
		}
		c := good()
		c.AuthMethod, c.JWKS = clients.PrivateKeyJWT, text
		if _, err := c.Validate(false); err != nil {
			t.Fatal(err)
		}
		stored, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read clients.Client
		if err := json.Unmarshal(stored, &read); err != nil || string(read.JWKS) != string(c.JWKS) {
			t.Errorf("stored %s, read %s, %v", c.JWKS, read.JWKS, err)
		}
	})
}
