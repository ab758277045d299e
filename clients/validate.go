package clients

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FieldError is one mistake in a registration. Value is what was given, quoted
// and shortened.
type FieldError struct {
	Field   string
	Value   string
	Problem string // with what to do
}

// Error says which field, what it holds, and what is wrong with it.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return e.Field + ": " + e.Problem
	}
	return fmt.Sprintf("%s %.200q: %s", e.Field, e.Value, e.Problem)
}

// Bounds of a registration.
const (
	maxURI    = 2000
	maxList   = 50
	maxName   = 100
	maxScopes = 100
)

// ParseRedirectURI returns s as a redirect URI if it may be registered: https
// with a host, in the one spelling that browsers send it in, so that comparing
// it byte for byte is enough (RFC 9700 §2.1). With development set, http is
// allowed on 127.0.0.1, [::1] and localhost.
func ParseRedirectURI(s string, development bool) (RedirectURI, error) {
	if err := checkURL(s, development); err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("it is no URL")
	}
	if u.Path == "" {
		return "", errors.New("the path is missing: write at least / after the host")
	}
	if strings.Contains(u.EscapedPath(), "//") {
		return "", errors.New("the path has an empty segment: write it as the browser ends up at")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return "", errors.New("the path has dot segments: write it as the browser ends up at")
		}
	}
	lower := strings.ToLower(u.EscapedPath())
	for _, trick := range []string{"%2f", "%5c", "%2e", "%00", "%25"} {
		if strings.Contains(lower, trick) {
			return "", errors.New("the path hides a slash, dot, percent sign or NUL in an escape")
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", errors.New("the query has an escape that is none, or a semicolon")
	}
	for _, name := range answered {
		if query.Has(name) {
			return "", fmt.Errorf("the query has a parameter %s: the answer brings its own, and the app would read this one", name)
		}
	}
	return RedirectURI(s), nil
}

// answered are the parameters that an answer is given by (RFC 6749 §4.1.2 and
// §4.1.2.1, RFC 9207 §2). A query that is registered stays in front of them,
// and most libraries read the first of two.
var answered = []string{"code", "state", "iss", "error", "error_description", "error_uri"}

// ParseOrigin returns s as a web origin if it may be registered: scheme, host
// and, if it is not the default one, port, as browsers send it (RFC 6454 §6.2).
func ParseOrigin(s string, development bool) (Origin, error) {
	if err := checkURL(s, development); err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery {
		return "", errors.New("an origin ends after the host and port: no path, no slash, no query")
	}
	return Origin(s), nil
}

// checkURL checks what redirect URIs and origins have in common.
func checkURL(s string, development bool) error {
	if s == "" {
		return errors.New("it is empty")
	}
	if len(s) > maxURI {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(s), maxURI)
	}
	for _, r := range s {
		switch {
		case r <= ' ' || r == 0x7f:
			return errors.New("it has white space or a control character")
		case r > 0x7f:
			return errors.New("it has a character that is not ASCII: write the host in punycode and escape the path")
		case strings.ContainsRune(`\*"<>{}|^`+"`", r):
			return fmt.Errorf("it has the character %q: wildcards and quoting are not allowed, each URI is registered exactly", r)
		}
	}
	if strings.Contains(s, "#") {
		return errors.New("it has a fragment, which is never sent (RFC 6749 §3.1.2)")
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" {
		return errors.New("it is no URL: https://host/path is expected")
	}
	switch {
	case !strings.HasPrefix(s, u.Scheme+"://"):
		return errors.New("the scheme is missing or not in lower case: https://host/path is expected")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return errors.New("it has user information before the host")
	case u.Hostname() == "":
		return errors.New("the host is missing")
	}
	host := u.Hostname()
	if host != strings.ToLower(host) {
		return errors.New("the host is not in lower case, as browsers send it")
	}
	if strings.HasSuffix(host, ".") || strings.Contains(host, "..") || strings.Contains(u.Host, "%") {
		return errors.New("the host has a trailing dot, an empty label or an escape")
	}
	if err := checkHost(host); err != nil {
		return err
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return errors.New("the port is no number between 1 and 65535")
		}
		if u.Scheme == "https" && n == 443 || u.Scheme == "http" && n == 80 {
			return errors.New("the default port is spelled out: browsers leave it away")
		}
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if !isLoopback(host) {
			return errors.New("http is not safe: use https")
		}
		if !development {
			return errors.New("http on loopback is for development only: use https, or register a development client")
		}
		return nil
	}
	return fmt.Errorf("the scheme %q is not allowed: use https", u.Scheme)
}

// checkHost refuses numeric hosts that are not in the one form that browsers
// send (2130706433 and 0x7f.1 are 127.0.0.1).
func checkHost(host string) error {
	if strings.Contains(host, ":") {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" || a.String() != host || a.Is4In6() {
			return errors.New("the IPv6 address is not in its canonical form")
		}
		return nil
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && (last[0] >= '0' && last[0] <= '9') {
		if a, err := netip.ParseAddr(host); err != nil || a.String() != host {
			return errors.New("the IPv4 address is not in its canonical form")
		}
		return nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("the host is no host name")
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return errors.New("the host is no host name")
			}
		}
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// ParseAudience checks the identifier of a resource server: an absolute URI
// without fragment (RFC 8707 §2). It has a colon, which no client id may have:
// no audience ever equals a client id, so an ID token is never one for an API.
func ParseAudience(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > maxURI:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(s), maxURI)
	case err != nil || !u.IsAbs() || u.Opaque == "" && u.Host == "":
		return errors.New("it is no absolute URI: the API's address, such as https://api.example.com, is expected")
	case u.Fragment != "" || strings.Contains(s, "#"):
		return errors.New("it has a fragment (RFC 8707 §2)")
	case u.User != nil:
		return errors.New("it has user information before the host")
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || r == '"' || r == '\\' {
			return errors.New("it has white space, a quote, a backslash or a character that is not ASCII")
		}
	}
	return nil
}

// IDTokenAlgs are the values of id_token_signed_response_alg.
func IDTokenAlgs() []string { return []string{"ES256", "RS256", "PS256", "EdDSA"} }

// Validate fills in what was left out (a name, the scopes, the algorithm of
// the ID token: ES256), gives the key set the form in which it is stored, marks
// a client that uses http as one for development, which only development mode
// allows, and reports every mistake at once, joined, each a [*FieldError]. A
// client without an error is safe to serve. The warnings are for the person who
// registers it.
func (c *Client) Validate(development bool) (warnings []string, err error) {
	var errs []error
	wrong := func(field, value, problem string) {
		errs = append(errs, &FieldError{field, value, problem})
	}
	// A client is for development if it needs what only that allows.
	allowed := c.Development || development
	c.Development = usesHTTP(c.RedirectURIs) || usesHTTP(c.PostLogoutRedirectURIs) || usesHTTP(c.Origins) || usesHTTP([]string{c.BackchannelLogoutURI})
	if c.Name == "" {
		c.Name = string(c.ID)
	}
	if len(c.Scopes) == 0 && !c.withoutPeople() {
		c.Scopes = []string{"openid", "profile", "email", "offline_access"}
	}
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = "ES256"
	}

	if err := checkID(string(c.ID)); err != nil {
		wrong("client id", string(c.ID), err.Error())
	}
	if len(c.Name) > maxName || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		wrong("name", c.Name, fmt.Sprintf("at most %d bytes and no control characters are allowed", maxName))
	}
	checkCredential(c.Method(), AuthMethods(), c.SecretHash, &c.JWKS, wrong)
	c.checkPolicy(wrong)
	if len(c.RedirectURIs) == 0 && !c.withoutPeople() {
		wrong("redirect_uri", "", "at least one is required: the address that the app is sent back to after the login")
	}
	if len(c.Origins) == 0 && !c.Confidential() { // a backend has none
		wrong("origin", "", "at least one is required: where the app is served, such as https://app.example.com")
	}
	if len(c.Audiences) == 0 {
		wrong("audience", "", "at least one is required: the API's identifier, such as https://api.example.com")
	}
	for _, u := range c.RedirectURIs {
		if _, err := ParseRedirectURI(string(u), allowed); err != nil {
			wrong("redirect_uri", string(u), err.Error())
		}
	}
	for _, u := range c.PostLogoutRedirectURIs {
		if _, err := ParseRedirectURI(string(u), allowed); err != nil {
			wrong("post_logout_redirect_uri", string(u), err.Error())
		}
	}
	for _, o := range c.Origins {
		if _, err := ParseOrigin(string(o), allowed); err != nil {
			wrong("origin", string(o), err.Error())
		}
	}
	if c.BackchannelLogoutURI != "" {
		if _, err := ParseLogoutURI(c.BackchannelLogoutURI, allowed); err != nil {
			wrong("backchannel_logout_uri", c.BackchannelLogoutURI, err.Error())
		}
	}
	for _, a := range c.Audiences {
		if err := ParseAudience(a); err != nil {
			wrong("audience", a, err.Error())
		}
	}
	for _, s := range c.Scopes {
		if !isScope(s) {
			wrong("scope", s, "a scope is made of printable ASCII without space, quote and backslash (RFC 6749 §3.3)")
		}
	}
	if !slices.Contains(IDTokenAlgs(), c.IDTokenAlg) {
		wrong("id_token_alg", c.IDTokenAlg, oneOf(IDTokenAlgs()))
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"access_token_life", c.AccessTokenLife}, {"refresh_idle", c.RefreshIdle}, {"refresh_life", c.RefreshLife}} {
		if d.value != 0 && d.value < time.Second {
			wrong(d.field, d.value.String(), "it must be a second or more, or absent")
		}
	}
	once(c.RedirectURIs, "redirect_uri", maxList, wrong)
	once(c.PostLogoutRedirectURIs, "post_logout_redirect_uri", maxList, wrong)
	once(c.Origins, "origin", maxList, wrong)
	once(c.Audiences, "audience", maxList, wrong)
	once(c.Scopes, "scope", maxScopes, wrong)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c.warnings(), nil
}

// warnings are what is allowed and yet odd.
func (c *Client) warnings() (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if c.withoutPeople() {
		if len(c.RedirectURIs) > 0 || c.BackchannelLogoutURI != "" {
			warn("with client_credentials alone nobody logs in: redirect_uri and backchannel_logout_uri are of no use")
		}
	}
	if c.Confidential() {
		for _, o := range c.Origins {
			warn("origin %s is for pages, and a page can't keep a credential: register the app in the browser as a client of its own", o)
		}
		return list
	}
	redirectOrigins := map[Origin]bool{}
	for _, u := range c.RedirectURIs {
		parsed, _ := url.Parse(string(u))
		o := Origin(parsed.Scheme + "://" + parsed.Host)
		redirectOrigins[o] = true
		if !c.HasOrigin(string(o)) {
			warn("redirect_uri %s is not on a registered origin: the page there can't call /token; add --origin %s unless that is meant", u, o)
		}
	}
	for _, o := range c.Origins {
		if !redirectOrigins[o] {
			warn("origin %s has no redirect_uri on it: nobody can log in there", o)
		}
	}
	return list
}

func usesHTTP[S ~string](list []S) bool {
	return slices.ContainsFunc(list, func(s S) bool { return strings.HasPrefix(string(s), "http:") })
}

func once[S ~string](list []S, field string, most int, wrong func(field, value, problem string)) {
	if len(list) > most {
		wrong(field, "", fmt.Sprintf("there are %d, at most %d are allowed", len(list), most))
	}
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			wrong(field, string(v), "it is there twice")
		}
	}
}

func checkID(id string) error {
	if id == "" || len(id) > 64 {
		return errors.New("1 to 64 characters are expected")
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return errors.New("letters, digits, -, _ and . are allowed")
		}
	}
	return nil
}

func isScope(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for _, r := range s { // NQCHAR of RFC 6749 appendix A
		if r < 0x21 || r > 0x7e || r == '"' || r == '\\' {
			return false
		}
	}
	return true
}
