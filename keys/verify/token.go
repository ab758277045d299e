package verify

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// Token is what an access token says, after it was checked. It is shared by
// requests: do not change it.
type Token struct {
	Issuer    string
	Subject   string // the user, for ever the same
	Audience  []string
	ClientID  string
	ID        string // jti
	Scope     []string
	IssuedAt  time.Time
	Expires   time.Time
	AuthTime  time.Time // when the person logged in; zero if not said
	ACR       string    // how, by class
	AMR       []string  // and by methods
	SessionID string    // sid
	GrantID   string    // grant_id: one login at one client

	notBefore time.Time
	bound     bool // there is a cnf
}

// HasScope reports whether the token has the scope, exactly.
func (t *Token) HasScope(scope string) bool { return slices.Contains(t.Scope, scope) }

// parsed is a token taken apart, nothing of it believed yet.
type parsed struct {
	header    header
	payload   []byte
	signed    []byte // what the signature covers
	signature []byte
}

type header struct{ algorithm, keyID, typ string }

// member takes a member of the header. Those that would change how the token
// is read, or bring a key, are refused.
func (h *header) member(name, value string) (err error) {
	switch name {
	case "alg":
		h.algorithm, err = text(value)
	case "kid":
		h.keyID, err = text(value)
	case "typ":
		h.typ, err = text(value)
	case "crit", "b64":
		return refuse("the header has %s, which is not understood", name)
	case "jwk", "jku", "x5u", "x5c":
		return refuse("the header brings a key of its own (%s)", name)
	}
	return err
}

// b64 accepts the one canonical spelling of each value.
var b64 = base64.RawURLEncoding.Strict()

// parse takes a token apart and checks what comes before the signature.
func parse(token string) (*parsed, error) {
	first := strings.IndexByte(token, '.')
	last := strings.LastIndexByte(token, '.')
	if first < 0 || last == first || strings.IndexByte(token[first+1:last], '.') >= 0 {
		return nil, refuse("the token is not three parts with dots between")
	}
	// One decode buffer for the three parts. Decoding skips line breaks, so
	// they are refused here.
	if strings.ContainsAny(token, "\r\n") {
		return nil, refuse("the token has line breaks")
	}
	buf := make([]byte, b64.DecodedLen(len(token)))
	decode := func(part string) ([]byte, bool) {
		n, err := b64.Decode(buf, []byte(part))
		out := buf[:n:n]
		buf = buf[n:]
		return out, err == nil
	}
	p := &parsed{signed: []byte(token[:last])}
	head, ok1 := decode(token[:first])
	payload, ok2 := decode(token[first+1 : last])
	signature, ok3 := decode(token[last+1:])
	if !ok1 || !ok2 || !ok3 {
		return nil, refuse("the token is not in canonical base64url")
	}
	p.payload, p.signature = payload, signature
	if err := object(head, p.header.member); err != nil {
		return nil, err
	}
	switch h := p.header; {
	case !strings.EqualFold(strings.TrimPrefix(strings.ToLower(h.typ), "application/"), "at+jwt"):
		return nil, refuse("typ is %.40q, at+jwt is expected: it is no access token", h.typ)
	case h.keyID == "" || len(h.keyID) > 256:
		return nil, refuse("the header names no key (kid)")
	}
	return p, nil
}

// farthest is the latest time that a token may name, in seconds: beyond the
// year 9999 something is wrong.
const farthest = 253402300799

// token reads the claims of a token whose signature was checked.
func (p *parsed) token() (*Token, error) {
	t := &Token{}
	if err := object(p.payload, t.member); err != nil {
		return nil, err
	}
	switch {
	case t.Expires.IsZero() || t.IssuedAt.IsZero():
		return nil, refuse("exp or iat is missing")
	case t.Subject == "" || t.ClientID == "" || t.ID == "":
		return nil, refuse("sub, client_id or jti is missing")
	case len(t.Audience) == 0:
		return nil, refuse("aud is missing")
	}
	return t, nil
}

// member takes a claim. Claims that are not known are left alone.
func (t *Token) member(name, value string) (err error) {
	switch name {
	case "iss":
		t.Issuer, err = text(value)
	case "sub":
		t.Subject, err = text(value)
	case "aud": // one string or a list of them (RFC 7519 §4.1.3)
		if value[0] == '"' {
			t.Audience = make([]string, 1)
			t.Audience[0], err = text(value)
		} else {
			t.Audience, err = texts(value)
		}
	case "client_id":
		t.ClientID, err = text(value)
	case "jti":
		t.ID, err = text(value)
	case "scope":
		var scope string
		if scope, err = text(value); scope != "" {
			t.Scope = strings.Split(scope, " ")
		}
	case "exp":
		t.Expires, err = date(value)
	case "iat":
		t.IssuedAt, err = date(value)
	case "nbf":
		t.notBefore, err = date(value)
	case "auth_time":
		t.AuthTime, err = date(value)
	case "acr":
		t.ACR, err = text(value)
	case "amr":
		t.AMR, err = texts(value)
	case "sid":
		t.SessionID, err = text(value)
	case "grant_id":
		t.GrantID, err = text(value)
	case "cnf":
		t.bound = true
	}
	return err
}
