package dpop_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys/verify/dpop"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const (
	address = "https://api.example.com/notes"
	token   = "an.access.token"
)

func expect() dpop.Expect {
	return dpop.Expect{Method: "GET", URI: address, AccessToken: token, Now: now}
}

func passes(t *testing.T, name, proof string, e dpop.Expect) *dpop.Proof {
	t.Helper()
	p, err := dpop.Check(proof, e)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return p
}

func refused(t *testing.T, name, proof string, e dpop.Expect) {
	t.Helper()
	if p, err := dpop.Check(proof, e); !errors.Is(err, dpop.ErrProof) || errors.Is(err, dpop.ErrNonce) || p != nil {
		t.Errorf("%s: got %v, ErrProof expected", name, err)
	}
}

// refusedKey holds that the key with the changes is refused, and in the proof.
func refusedKey(t *testing.T, name string, k key, changes map[string]any) {
	t.Helper()
	jwk := change(maps.Clone(k.jwk), changes)
	refused(t, name, k.proof(t, map[string]any{"jwk": jwk}, nil), expect())
	if _, err := dpop.Thumbprint([]byte(text(t, jwk))); err == nil {
		t.Errorf("%s: the key is accepted", name)
	}
}

func TestEveryAlgorithmPasses(t *testing.T) {
	for _, alg := range dpop.Algorithms() {
		k := newKey(t, alg)
		p := passes(t, alg, k.proof(t, nil, nil), expect())
		if p == nil {
			continue
		}
		want, err := (&jose.JSONWebKey{Key: k.private.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if p.JKT != b64(want) || !dpop.ValidThumbprint(p.JKT) || p.ID != "id-1" || !p.IssuedAt.Equal(now) || p.Nonce != "" {
			t.Errorf("%s: got %+v", alg, p)
		}
		passes(t, alg+", full media type", k.proof(t, map[string]any{"typ": "application/DPoP+JWT"}, nil), expect())
		passes(t, alg+", named in the key", k.proof(t, map[string]any{"jwk": change(maps.Clone(k.jwk), map[string]any{"alg": alg, "use": "sig", "key_ops": []string{"verify"}, "ext": true})}, nil), expect())
	}
}

// TestExampleOfTheRFC takes the proof of RFC 9449 §4.1 and the thumbprint that
// §6.1 has for its key.
func TestExampleOfTheRFC(t *testing.T) {
	const proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	p := passes(t, "the example", proof, dpop.Expect{Method: "POST", URI: "https://server.example.com/token", Now: time.Unix(1562262616, 0)})
	if p != nil && p.JKT != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Errorf("thumbprint %s", p.JKT)
	}
}

func TestRefusals(t *testing.T) {
	es, ps, ed := newKey(t, "ES256"), newKey(t, "PS256"), newKey(t, "EdDSA")
	other := newKey(t, "ES256")
	good := es.proof(t, nil, nil)
	passes(t, "the good proof", good, expect())
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")

	for name, header := range map[string]map[string]any{
		"no typ":              {"typ": nil},
		"an access token":     {"typ": "at+jwt"},
		"a plain JWT":         {"typ": "JWT"},
		"typ with a space":    {"typ": "dpop+jwt "},
		"typ with parameters": {"typ": "dpop+jwt;v=1"},
		"typ is no text":      {"typ": 1},
		"no alg":              {"alg": nil},
		"alg none":            {"alg": "none"},
		"alg of another key":  {"alg": "PS256"},
		"alg in lower case":   {"alg": "es256"},
		"alg ES384":           {"alg": "ES384"},
		"no jwk":              {"jwk": nil},
		"jwk is no object":    {"jwk": "x"},
		"jwk is null":         {"jwk": json.RawMessage("null")},
		"crit":                {"crit": []string{"exp"}, "exp": 1},
		"b64":                 {"b64": false},
		"jku":                 {"jku": "https://evil.example/jwks"},
		"x5u":                 {"x5u": "https://evil.example/cert"},
		"x5c":                 {"x5c": []string{"x"}},
		"another's jwk":       {"jwk": other.jwk},
	} {
		refused(t, name, es.proof(t, header, nil), expect())
	}
	for name, claims := range map[string]map[string]any{
		"no jti":            {"jti": nil},
		"empty jti":         {"jti": ""},
		"long jti":          {"jti": strings.Repeat("x", 257)},
		"jti is a number":   {"jti": 7},
		"no htm":            {"htm": nil},
		"other htm":         {"htm": "POST"},
		"htm in lower case": {"htm": "get"},
		"no htu":            {"htu": nil},
		"other path":        {"htu": "https://api.example.com/others"},
		"other host":        {"htu": "https://evil.example/notes"},
		"other scheme":      {"htu": "http://api.example.com/notes"},
		"other port":        {"htu": "https://api.example.com:8443/notes"},
		"user in htu":       {"htu": "https://api.example.com@evil.example/notes"},
		"no ath":            {"ath": nil},
		"empty ath":         {"ath": ""},
		"another's ath":     {"ath": b64(make([]byte, 32))},
		"ath with padding":  {"ath": payload(nil)["ath"].(string) + "="},
		"no iat":            {"iat": nil},
		"iat is text":       {"iat": "1"},
		"iat is zero":       {"iat": 0},
		"iat is absurd":     {"iat": 1e300},
		"stale":             {"iat": now.Unix() - 71},
		"future":            {"iat": now.Unix() + 11},
		"stale by half":     {"iat": float64(now.Unix()) - 70.5},
		"expired":           {"exp": now.Unix() - 10},
		"not yet valid":     {"nbf": now.Unix() + 11},
		"nonce is a number": {"nonce": 7},
	} {
		refused(t, name, es.proof(t, nil, claims), expect())
	}
	for name, jwk := range map[string]map[string]any{
		"private part":      {"d": "AAAA"},
		"private part k":    {"k": "AAAA"},
		"for encryption":    {"use": "enc"},
		"for another alg":   {"alg": "RS256"},
		"with certificate":  {"x5c": []string{"x"}},
		"other curve":       {"crv": "P-384"},
		"no curve":          {"crv": nil},
		"secp256k1":         {"crv": "secp256k1"},
		"symmetric":         {"kty": "oct"},
		"no kty":            {"kty": nil},
		"no y":              {"y": nil},
		"off the curve":     {"y": es.jwk["x"]},
		"x with padding":    {"x": es.jwk["x"].(string) + "="},
		"x non-canonical":   {"x": spare(es.jwk["x"].(string))},
		"x with line break": {"x": "\n" + es.jwk["x"].(string)},
		"x one byte short":  {"x": es.jwk["x"].(string)[:42]},
		"x with a zero":     {"x": b64(append([]byte{0}, decode(t, es.jwk["x"].(string))...))},
	} {
		refusedKey(t, "EC: "+name, es, jwk)
	}
	for name, jwk := range map[string]map[string]any{
		"p":                {"p": "AAAA"},
		"q":                {"q": "AAAA"},
		"dp":               {"dp": "AAAA"},
		"dq":               {"dq": "AAAA"},
		"qi":               {"qi": "AAAA"},
		"oth":              {"oth": []any{}},
		"for RS256":        {"alg": "RS256"},
		"n with a zero":    {"n": b64(append([]byte{0}, decode(t, ps.jwk["n"].(string))...))},
		"n empty":          {"n": ""},
		"n of 4104 bits":   {"n": b64(odd(0x80, 513))},
		"n of 2047 bits":   {"n": b64(odd(0x7f, 256))},
		"n even":           {"n": b64(append([]byte{0x80}, make([]byte, 255)...))},
		"e of 3":           {"e": "Aw"},
		"e even":           {"e": b64([]byte{1, 0, 2})},
		"e of 33 bits":     {"e": b64([]byte{1, 0, 0, 0, 1})},
		"e that overflows": {"e": b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})},
		"e of 32 bits":     {"e": b64([]byte{0x80, 0, 0, 1})},
		"e with a zero":    {"e": b64([]byte{0, 1, 0, 1})},
		"e non-canonical":  {"e": "AQAB=="},
	} {
		refusedKey(t, "RSA: "+name, ps, jwk)
	}
	for name, jwk := range map[string]map[string]any{
		"d":           {"d": "AAAA"},
		"X25519":      {"crv": "X25519"},
		"Ed448":       {"crv": "Ed448"},
		"31 bytes":    {"x": b64(make([]byte, 31))},
		"33 bytes":    {"x": b64(make([]byte, 33))},
		"other alg":   {"alg": "ES256"},
		"another kty": {"kty": "EC"},
	} {
		refusedKey(t, "OKP: "+name, ed, jwk)
	}
	refused(t, "RS256", newKey(t, "RS256").proof(t, nil, nil), expect())
	refused(t, "RS256 under the name PS256", newKey(t, "RS256").proof(t, map[string]any{"alg": "PS256"}, nil), expect())
	refused(t, "ES384", newKey(t, "ES384").proof(t, nil, nil), expect())
	refused(t, "HS256 with the key as the secret", hs256(t, es), expect())
	refused(t, "HS256 with a symmetric jwk", hs256(t, key{jwk: map[string]any{"kty": "oct", "k": "AAAA"}}), expect())

	plain, claims := text(t, es.header(nil)), text(t, payload(nil))
	for name, p := range map[string]string{
		"payload member twice":       es.sign(t, plain, strings.Replace(claims, `{`, `{"htm":"POST",`, 1)),
		"payload twice by case":      es.sign(t, plain, strings.Replace(claims, `{`, `{"HTM":"GET",`, 1)),
		"payload name with escape":   es.sign(t, plain, strings.Replace(claims, `"htm"`, `"ht\u006d"`, 1)),
		"payload with trailing data": es.sign(t, plain, claims+"{}"),
		"payload is a list":          es.sign(t, plain, "["+claims+"]"),
		"empty payload":              es.sign(t, plain, ""),
		"header member twice":        es.sign(t, strings.Replace(plain, `{`, `{"typ":"dpop+jwt",`, 1), claims),
		"header is no object":        es.sign(t, `"x"`, claims),
		"jwk member twice":           es.sign(t, strings.Replace(plain, `"kty"`, `"kty":"EC","kty"`, 1), claims),
		"jwk twice by case":          es.sign(t, strings.Replace(plain, `"kty"`, `"KTY":"EC","kty"`, 1), claims),
		"empty":                      "",
		"dots":                       "..",
		"two parts":                  head + "." + body,
		"four parts":                 good + ".x",
		"no signature":               head + "." + body + ".",
		"short signature":            good[:len(good)-4],
		"wrong signature":            head + "." + body + "." + b64(make([]byte, 64)),
		"ASN.1 signature":            asn1(t, es, head+"."+body),
		"padding":                    good + "==",
		"non-canonical signature":    spare(good),
		"line break":                 head + "." + body + "\n." + signature,
		"trailing line break":        good + "\n",
		"leading space":              " " + good,
		"two in one header":          good + "," + good,
		"5 KiB":                      es.proof(t, nil, map[string]any{"x": strings.Repeat("x", 5<<10)}),
		"65 members":                 es.sign(t, plain, `{`+members(60)+claims[1:]),
	} {
		refused(t, name, p, expect())
	}
	passes(t, "64 members", es.sign(t, plain, `{`+members(59)+claims[1:]), expect())
	passes(t, "jti of 256 bytes", es.proof(t, nil, map[string]any{"jti": strings.Repeat("x", 256)}), expect())
	passes(t, "RSA of 4096 bits fits", rsa4096(t).proof(t, nil, map[string]any{"nonce": strings.Repeat("x", 256), "htu": address + "?" + strings.Repeat("x", 256)}), expect())
}

func TestTimes(t *testing.T) {
	k := newKey(t, "ES256")
	at := func(iat float64) string { return k.proof(t, nil, map[string]any{"iat": iat}) }
	unix := float64(now.Unix())
	passes(t, "oldest", at(unix-70), expect())
	passes(t, "newest", at(unix+10), expect())
	passes(t, "with exp and nbf", k.proof(t, nil, map[string]any{"exp": now.Unix(), "nbf": now.Unix()}), expect())
	e := expect()
	e.Lifetime, e.Leeway = 5*time.Second, -1
	passes(t, "lifetime", at(unix-5), e)
	refused(t, "older than the lifetime", at(unix-5.5), e)
	refused(t, "future without leeway", at(unix+0.5), e)

	// Until Expires, no server accepts it whose clock is ten seconds behind.
	p := passes(t, "fraction", at(unix+0.5), expect())
	e = expect()
	e.Now = p.Expires.Add(-dpop.DefaultLeeway)
	refused(t, "when it expires", at(unix+0.5), e)
	if p.Expires.Nanosecond() != 0 || p.Expires.Sub(now) != 81*time.Second {
		t.Errorf("expires after %s", p.Expires.Sub(now))
	}
}

func TestAccessTokenHash(t *testing.T) {
	k := newKey(t, "ES256")
	e := expect()
	e.AccessToken = ""
	passes(t, "no token, no ath", k.proof(t, nil, map[string]any{"ath": nil}), e)
	passes(t, "no token, an ath", k.proof(t, nil, nil), e)
	e.AccessToken = "another"
	refused(t, "another token", k.proof(t, nil, nil), e)
}

func TestReplayKey(t *testing.T) {
	k, other := newKey(t, "ES256"), newKey(t, "ES256")
	post := expect()
	post.Method = "POST"
	elsewhere := expect()
	elsewhere.URI = address + "/1"
	first := passes(t, "first", k.proof(t, nil, nil), expect()).Replay
	for name, c := range map[string]struct {
		p    *dpop.Proof
		same bool
	}{
		"signed again":    {passes(t, "again", k.proof(t, nil, map[string]any{"iat": now.Unix() + 1}), expect()), true},
		"other spelling":  {passes(t, "spelling", k.proof(t, nil, map[string]any{"htu": "HTTPS://API.example.com:443/%6eotes?q#f"}), expect()), true},
		"another method":  {passes(t, "method", k.proof(t, nil, map[string]any{"htm": "POST"}), post), true},
		"another jti":     {passes(t, "jti", k.proof(t, nil, map[string]any{"jti": "id-2"}), expect()), false},
		"another address": {passes(t, "address", k.proof(t, nil, map[string]any{"htu": address + "/1"}), elsewhere), false},
		"another's key":   {passes(t, "key", other.proof(t, nil, nil), expect()), false},
	} {
		if (c.p.Replay == first) != c.same {
			t.Errorf("%s: the same use is %v, %v expected", name, c.p.Replay == first, c.same)
		}
	}
}

// TestReplayKeyHasBorders has a jti that ends with what an address begins with.
func TestReplayKeyHasBorders(t *testing.T) {
	k := newKey(t, "ES256")
	long, short := expect(), expect()
	long.URI, short.URI = "https://a/https://a/", "https://a/"
	a := passes(t, "in the path", k.proof(t, nil, map[string]any{"jti": "x", "htu": long.URI}), long)
	b := passes(t, "in the jti", k.proof(t, nil, map[string]any{"jti": "xhttps://a/", "htu": short.URI}), short)
	if a.Replay == b.Replay {
		t.Error("two uses are one")
	}
}

func TestFromHeader(t *testing.T) {
	h := http.Header{}
	if _, err := dpop.FromHeader(h); !errors.Is(err, dpop.ErrNone) || errors.Is(err, dpop.ErrProof) {
		t.Errorf("no header: %v", err)
	}
	h.Set("DPoP", "a")
	if p, err := dpop.FromHeader(h); err != nil || p != "a" {
		t.Errorf("one header: %q %v", p, err)
	}
	h.Add("dpop", "b")
	if _, err := dpop.FromHeader(h); !errors.Is(err, dpop.ErrProof) || errors.Is(err, dpop.ErrNone) {
		t.Errorf("two headers: %v", err)
	}
	h.Set("DPoP", "")
	if _, err := dpop.FromHeader(h); !errors.Is(err, dpop.ErrProof) {
		t.Errorf("empty header: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	k := newKey(f, "ES256")
	good := k.proof(f, nil, nil)
	f.Add(good)
	f.Add(spare(good))
	f.Add(newKey(f, "EdDSA").proof(f, nil, map[string]any{"htu": "https://API.example.com:443/a/%2e%2e/notes?x"}))
	f.Add(newKey(f, "PS256").proof(f, nil, nil))
	f.Fuzz(func(t *testing.T, proof string) {
		p, err := dpop.Check(proof, expect())
		switch {
		case err == nil && (!dpop.ValidThumbprint(p.JKT) || p.ID == ""):
			t.Errorf("%q passed as %+v", proof, p)
		case err != nil && !errors.Is(err, dpop.ErrProof):
			t.Errorf("%q: %v", proof, err)
		}
	})
}
