package backchannel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// A receiver's address is whatever whoever registers a client writes there,
// and its name leads wherever its owner says at the moment. So that nobody
// reaches through this server what only this server can reach, the address is
// looked at when it is dialled, not when the name is looked up.

// special are the networks inside of what is global unicast by its form that
// are nobody's public host (the IANA special-purpose address registries), with
// what leads to an IPv4 address of any kind, and what a cloud's own services
// answer at.
var special = prefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // carrier's NAT; metadata at 100.100.100.200
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // Azure's own services
	"169.254.0.0/16",   // link-local; metadata at 169.254.169.254
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments; metadata at 192.0.0.192
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast
	"2001::/23",        // protocol assignments: Teredo, ORCHID, benchmarks
	"2001:db8::/32",    // documentation
	"2002::/16",        // 6to4
	"3fff::/20",        // documentation
)

// ipv6 is all that is given out of IPv6. So loopback, the unspecified address,
// link-local, unique local (fd00:ec2::254 among them), multicast and NAT64 are
// outside.
var ipv6 = netip.MustParsePrefix("2000::/3")

func prefixes(list ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(list))
	for i, text := range list {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// public reports whether a is the address of a host on the public Internet.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !ipv6.Contains(a) {
		return false
	}
	return !within(special, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// guard decides where a receiver may be.
type guard struct {
	allow []netip.Prefix
	// loopback allows this machine, and plain only this machine.
	loopback, plain bool
}

// check returns an error that says what to do if a receiver must not be at the
// address.
func (g guard) check(a netip.Addr) error {
	a = a.Unmap()
	switch {
	case g.plain && !a.IsLoopback():
		return fmt.Errorf("%s is not this machine: a receiver elsewhere must be https", a)
	case g.loopback && a.IsLoopback(), within(g.allow, a), public(a):
		return nil
	}
	return fmt.Errorf("%s is not a public address: if the receiver is in a network of your own, name that in backchannel_logout.allow_networks", a)
}

// control is a [net.Dialer.ControlContext]: it sees the address that is about
// to be dialled, after every look-up.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("network %s: TCP expected", network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.check(at.Addr())
}

// poster sends logout tokens.
type poster struct {
	secure *http.Client
	plain  *http.Client // nil outside of development mode
}

// newPoster returns a poster. Tests bring a resolver and certificates.
func newPoster(development bool, allow []netip.Prefix, resolver *net.Resolver, roots *x509.CertPool) *poster {
	client := func(g guard) *http.Client {
		d := &net.Dialer{Timeout: attemptFor, Resolver: resolver, ControlContext: g.control}
		return &http.Client{
			Transport: &http.Transport{
				// No proxy, whatever the environment says: it would dial for
				// us, past the guard.
				Proxy:                  nil,
				DialContext:            d.DialContext,
				TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
				DisableKeepAlives:      true, // each address is looked at anew
				DisableCompression:     true,
				TLSHandshakeTimeout:    attemptFor,
				MaxResponseHeaderBytes: maxAnswer,
			},
			// A redirect would lead the token to where nobody registered.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	p := &poster{secure: client(guard{allow: allow, loopback: development})}
	if development {
		p.plain = client(guard{loopback: true, plain: true})
	}
	return p
}

// maxAnswer bounds what is read of an answer's header, and of its body.
const maxAnswer = 4 << 10

// post implements [Sender.post] (Back-Channel Logout §2.5). No error holds the
// token.
func (p *poster) post(ctx context.Context, uri, token string) (int, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return 0, errors.New("backchannel_logout_uri is not a URL without user and fragment: register another one")
	}
	client := p.secure
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && p.plain != nil:
		client = p.plain
	default:
		return 0, errors.New("backchannel_logout_uri is not https: register another one")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		return 0, errors.New("backchannel_logout_uri can't be asked: register another one")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "Solegate")
	resp, err := client.Do(r)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL
		}
		return 0, err
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxAnswer) // what it says does not matter
	return resp.StatusCode, nil
}
