package guard

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/solegate/solegate/keys/verify"
)

// The headers that say who asks. The upstream gets them from the guard only.
const (
	HeaderSubject  = "X-Solegate-Subject"   // the user, for ever the same
	HeaderClient   = "X-Solegate-Client"    // the app's client id
	HeaderScope    = "X-Solegate-Scope"     // scopes, with spaces between
	HeaderSession  = "X-Solegate-Session"   // sid
	HeaderGrant    = "X-Solegate-Grant"     // grant_id
	HeaderACR      = "X-Solegate-Acr"       // class of the login
	HeaderAuthTime = "X-Solegate-Auth-Time" // when the person logged in, in Unix seconds
)

// identity is what a token says, by header. A value may be empty.
func identity(t *verify.Token) [7][2]string {
	var authTime string
	if !t.AuthTime.IsZero() {
		authTime = strconv.FormatInt(t.AuthTime.Unix(), 10)
	}
	return [...][2]string{
		{HeaderSubject, t.Subject}, {HeaderClient, t.ClientID}, {HeaderScope, strings.Join(t.Scope, " ")},
		{HeaderSession, t.SessionID}, {HeaderGrant, t.GrantID}, {HeaderACR, t.ACR}, {HeaderAuthTime, authTime},
	}
}

// expressible refuses a token with a claim that no header can hold as it is.
// An upstream that reads headers in another character set would see somebody
// else.
func expressible(t *verify.Token) error {
	for _, pair := range identity(t) {
		if v := pair[1]; strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(v) != v {
			return &verify.Error{Code: "invalid_token", Description: "The access token is not for this API.", Status: http.StatusUnauthorized, Cause: fmt.Errorf("a claim of the token can't stand in %s: printable ASCII is expected", pair[0])}
		}
	}
	return nil
}

// reserved are headers that an upstream may believe to be a proxy's word: who
// asks, where from, and for what. Those that begin with x-solegate-,
// x-forwarded and x-original- are, too.
var reserved = map[string]bool{
	"forwarded": true, "x-real-ip": true, "x-client-ip": true, "true-client-ip": true, "x-cluster-client-ip": true,
	"remote-user": true, "x-remote-user": true,
	"x-rewrite-url": true, // another path, for IIS, Symfony and others
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true,
	"proxy": true, // HTTP_PROXY, for CGI
}

// ours reports whether a header of that name is none that a client may send to
// the upstream: it is reserved, or could be taken for one that is. CGI and what
// comes of it (WSGI, Rack, PHP) make one name of X-A, X_A and X.A.
func ours(name string) bool {
	lower := strings.ToLower(name)
	return !plain(name) || reserved[lower] || strings.HasPrefix(lower, "x-solegate-") || strings.HasPrefix(lower, "x-forwarded") || strings.HasPrefix(lower, "x-original-")
}

func plain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// forUpstream returns the client's headers without those that are ours.
func (g *Guard) forUpstream(h http.Header) http.Header {
	kept := make(http.Header, len(h)+10)
	for name, values := range h {
		switch {
		case ours(name):
		case (name == "Authorization" || name == "Dpop") && !g.config.PassAuthorization:
		default:
			kept[name] = values
		}
	}
	return kept
}

// address is where the request comes from: the peer, or what a trusted proxy
// says of it. The chain is read from its end; the first address that is no
// trusted proxy's is the client's.
func (g *Guard) address(r *http.Request) netip.Addr {
	address := peer(r)
	if !address.IsValid() || !trusted(g.config.TrustedProxies, address) {
		return address
	}
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(chain) {
		next, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			break
		}
		address = next.Unmap()
		if !trusted(g.config.TrustedProxies, address) {
			break
		}
	}
	return address
}

func peer(r *http.Request) netip.Addr {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

func trusted(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}
