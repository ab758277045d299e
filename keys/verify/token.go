package verify

import (
	"encoding/base64"
	"encoding/json"
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

type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Type      string          `json:"typ"`
	Critical  json.RawMessage `json:"crit"`
	JWK       json.RawMessage `json:"jwk"`
	JKU       json.RawMessage `json:"jku"`
	X5U       json.RawMessage `json:"x5u"`
	X5C       json.RawMessage `json:"x5c"`
	B64       json.RawMessage `json:"b64"`
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
	if err := object(head, &p.header); err != nil {
		return nil, err
	}
	h := p.header
	switch typ := strings.TrimPrefix(strings.ToLower(h.Type), "application/"); {
	case typ != "at+jwt":
		return nil, refuse("typ is %.40q, at+jwt is expected: it is no access token", h.Type)
	case h.Critical != nil || h.B64 != nil:
		return nil, refuse("the header has crit or b64, which are not understood")
	case h.JWK != nil || h.JKU != nil || h.X5U != nil || h.X5C != nil:
		return nil, refuse("the header brings a key of its own")
	case h.KeyID == "" || len(h.KeyID) > 256:
		return nil, refuse("the header names no key (kid)")
	}
	return p, nil
}

// seconds is a NumericDate (RFC 7519 §2), which may have a fraction.
type seconds float64

func (s seconds) time() time.Time {
	whole := int64(s)
	return time.Unix(whole, int64((float64(s)-float64(whole))*1e9))
}

// audience is one string or a list of them (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = make([]string, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

type claims struct {
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	Audience  audience        `json:"aud"`
	ClientID  string          `json:"client_id"`
	ID        string          `json:"jti"`
	Scope     string          `json:"scope"`
	Expires   *seconds        `json:"exp"`
	IssuedAt  *seconds        `json:"iat"`
	NotBefore *seconds        `json:"nbf"`
	AuthTime  *seconds        `json:"auth_time"`
	ACR       string          `json:"acr"`
	AMR       []string        `json:"amr"`
	SessionID string          `json:"sid"`
	GrantID   string          `json:"grant_id"`
	Confirm   json.RawMessage `json:"cnf"`
}

// farthest is the latest time that a token may name, in seconds: beyond the
// year 9999 something is wrong.
const farthest = 253402300799

// token reads the claims of a token whose signature was checked.
func (p *parsed) token() (*Token, error) {
	var c claims
	if err := object(p.payload, &c); err != nil {
		return nil, err
	}
	switch {
	case c.Expires == nil || c.IssuedAt == nil:
		return nil, refuse("exp or iat is missing")
	case c.Subject == "" || c.ClientID == "" || c.ID == "":
		return nil, refuse("sub, client_id or jti is missing")
	case len(c.Audience) == 0:
		return nil, refuse("aud is missing")
	}
	t := &Token{
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, ClientID: c.ClientID, ID: c.ID,
		IssuedAt: c.IssuedAt.time(), Expires: c.Expires.time(),
		ACR: c.ACR, AMR: c.AMR, SessionID: c.SessionID, GrantID: c.GrantID, bound: c.Confirm != nil,
	}
	if c.Scope != "" {
		t.Scope = strings.Split(c.Scope, " ")
	}
	for _, d := range []*seconds{c.Expires, c.IssuedAt, c.NotBefore, c.AuthTime} {
		if d != nil && (*d < 0 || *d > farthest) {
			return nil, refuse("a time is out of range")
		}
	}
	if c.NotBefore != nil {
		t.notBefore = c.NotBefore.time()
	}
	if c.AuthTime != nil {
		t.AuthTime = c.AuthTime.time()
	}
	return t, nil
}

// object decodes a JSON object in which no member stands twice. encoding/json
// takes the last of several, and any case: both are refused, so that no other
// reader of the same token can see another value.
func object(data []byte, into any) error {
	if len(data) == 0 || data[0] != '{' {
		return refuse("a part of the token is no JSON object")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return refuse("a part of the token is no JSON of the expected form: %v", err)
	}
	// The JSON is valid from here on.
	var names [64]string
	n, depth := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			start := i + 1
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if depth != 1 || !isName(data[i+1:]) {
				continue
			}
			name := string(data[start:i])
			if strings.IndexByte(name, '\\') >= 0 {
				return refuse("a member's name is written with escapes")
			}
			for _, before := range names[:n] {
				if strings.EqualFold(before, name) {
					return refuse("the member %.40q stands twice", name)
				}
			}
			if n == len(names) {
				return refuse("there are more than %d members", len(names))
			}
			names[n] = name
			n++
		}
	}
	return nil
}

// isName reports whether the string before rest is a member's name: a colon
// follows.
func isName(rest []byte) bool {
	for _, c := range rest {
		switch c {
		case ' ', '\t', '\n', '\r':
		default:
			return c == ':'
		}
	}
	return false
}
