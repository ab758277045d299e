package verify

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/keys/verify/internal/strict"
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
	JKT       string    // thumbprint of the key that it is bound to (RFC 9449 §6.1); "" for a bearer token

	// UserEpoch and ClientEpoch say before which event of its user and its
	// client it was issued (user_epoch, client_epoch): each event begins a new
	// epoch. They are 0 if not said, for nothing had happened.
	UserEpoch   uint64
	ClientEpoch uint64

	notBefore time.Time
	keyID     string // kid of the key that signed it
}

// HasScope reports whether the token has the scope, exactly.
func (t *Token) HasScope(scope string) bool { return slices.Contains(t.Scope, scope) }

// parsed is a token taken apart, nothing of it believed yet.
type parsed struct {
	header header
	strict.JWS
}

type header struct{ algorithm, keyID, typ string }

// member takes a member of the header. Those that would change how the token
// is read, or bring a key, are refused.
func (h *header) member(name, value string) (err error) {
	switch name {
	case "alg":
		h.algorithm, err = strict.Text(value)
	case "kid":
		h.keyID, err = strict.Text(value)
	case "typ":
		h.typ, err = strict.Text(value)
	case "crit", "b64":
		return refuse("the header has %s, which is not understood", name)
	case "jwk", "jku", "x5u", "x5c":
		return refuse("the header brings a key of its own (%s)", name)
	}
	return err
}

// object reads a part of the token; its errors are refusals.
func object(raw []byte, member func(name, value string) error) error {
	err := strict.Object(raw, member)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return refuse("%w", err)
}

// parse takes a token apart and checks what comes before the signature.
func parse(token string) (*parsed, error) {
	jws, err := strict.Compact(token)
	if err != nil {
		return nil, refuse("%w", err)
	}
	p := &parsed{JWS: jws}
	if err := object(jws.Header, p.header.member); err != nil {
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

// token reads the claims of a token whose signature was checked.
func (p *parsed) token() (*Token, error) {
	t := &Token{}
	if err := object(p.Payload, t.member); err != nil {
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
		t.Issuer, err = strict.Text(value)
	case "sub":
		t.Subject, err = strict.Text(value)
	case "aud": // one string or a list of them (RFC 7519 §4.1.3)
		if value[0] == '"' {
			t.Audience = make([]string, 1)
			t.Audience[0], err = strict.Text(value)
		} else {
			t.Audience, err = strict.Texts(value)
		}
	case "client_id":
		t.ClientID, err = strict.Text(value)
	case "jti":
		t.ID, err = strict.Text(value)
	case "scope":
		var scope string
		if scope, err = strict.Text(value); scope != "" {
			t.Scope = strings.Split(scope, " ")
		}
	case "exp":
		t.Expires, err = strict.Date(value)
	case "iat":
		t.IssuedAt, err = strict.Date(value)
	case "nbf":
		t.notBefore, err = strict.Date(value)
	case "auth_time":
		t.AuthTime, err = strict.Date(value)
	case "acr":
		t.ACR, err = strict.Text(value)
	case "amr":
		t.AMR, err = strict.Texts(value)
	case "sid":
		t.SessionID, err = strict.Text(value)
	case "grant_id":
		t.GrantID, err = strict.Text(value)
	case "cnf":
		t.JKT, err = confirmation(value)
	case "user_epoch":
		t.UserEpoch, err = epoch(value)
	case "client_epoch":
		t.ClientEpoch, err = epoch(value)
	}
	return err
}

// epoch reads the number of an epoch.
func epoch(value string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, refuse("an epoch is %.20q, a whole number is expected", value)
	}
	return n, nil
}

// confirmation reads a cnf (RFC 7800 §3.1, RFC 9449 §6.1). What it holds other
// than a jkt is a binding that nobody here would check.
func confirmation(value string) (jkt string, err error) {
	err = object([]byte(value), func(name, value string) (err error) {
		if name != "jkt" {
			return refuse("the token is bound by %.20q (cnf), which is not understood", name)
		}
		jkt, err = strict.Text(value)
		return err
	})
	if err == nil && !dpop.ValidThumbprint(jkt) {
		err = refuse("the token is bound to a key (cnf) by something that is no SHA-256 thumbprint")
	}
	return jkt, err
}

// unbound refuses a bound token that comes as a bearer token: who stole it
// would do that.
func (t *Token) unbound() error {
	if t.JKT != "" {
		return refuse("the token is bound to a key (cnf) and was presented without proof of it")
	}
	return nil
}
