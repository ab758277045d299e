package verify

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says whose tokens are accepted, and for what. Issuer and Audience are
// required.
type Config struct {
	// Issuer is the authorization server's issuer, exactly as its metadata
	// and tokens have it.
	Issuer string

	// Audience is this API's identifier, exactly as tokens have it in aud.
	Audience string

	// Development allows an http issuer on loopback.
	Development bool

	// Algorithms are the accepted ones: ES256, RS256, PS256 and EdDSA if
	// empty.
	Algorithms []string

	// Leeway is how far the issuer's clock may be ahead or behind: 10
	// seconds if zero, none if negative, a minute at most.
	Leeway time.Duration

	// MaxStale is how long the keys at hand serve while the issuer can't be
	// reached: 24 hours if zero.
	MaxStale time.Duration

	// CacheSize is how many tokens that passed are remembered until they
	// expire: 10000 if zero, none if negative.
	CacheSize int

	// Origins, if not empty, are the web origins whose pages may call:
	// Require refuses a request that names another one, and CORS lets these
	// read the answers. A request without Origin passes.
	Origins []string

	// RequiredHeader, if set, is a header that each request must have, such
	// as "X-Requested-With": a page of another origin can't send it without
	// being asked first.
	RequiredHeader string

	// PublicURL is how the public reaches this API: scheme, host, port if
	// there is one, and the path before the one that requests have here, if a
	// proxy takes one away. "https://api.example.com" is an example. A DPoP
	// proof must be for PublicURL and the request's path; the Host header is
	// the caller's own word, and doesn't count. Empty means the scheme, host
	// and port of Audience if it is an https URL; if it is none, no DPoP is
	// accepted.
	PublicURL string

	// RequireDPoP refuses Bearer: each token must be bound to a key, and each
	// request must prove it. Otherwise tokens that are bound must come with
	// their proof, and others may come as Bearer.
	RequireDPoP bool

	// DPoPLifetime is how old a proof may be that has no nonce of this API: a
	// minute if zero, five minutes at most.
	DPoPLifetime time.Duration

	// DPoPNonceKey, if not empty, makes each proof need a nonce of this API
	// (RFC 9449 §9), so that none can be made in advance: 32 random bytes,
	// the same in all replicas, and not those of the authorization server. A
	// client whose nonce is missing or old is told the new one.
	DPoPNonceKey []byte

	// Replays remembers which proofs were used. Nil means this process's own
	// memory, of 262144 proofs at most: a proof then passes once at each
	// replica. Give all replicas one that they share to close that. With
	// DPoPNonceKey, when there are more than 262144 requests in the two minutes
	// of a nonce, the rest of them are refused: give one that holds more.
	Replays Replays

	// Scopes are what Metadata lists as scopes_supported.
	Scopes []string

	// Client fetches the keys; nil means one with a time-out of five seconds
	// that follows no redirect.
	Client *http.Client

	// Log takes what happened: a refused token with its reason, an issuer
	// that can't be reached. Nil discards it. No token is ever logged.
	Log *slog.Logger

	// Now is the clock; nil means the real one.
	Now func() time.Time
}

func (c *Config) complete() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case c.Issuer == "":
		return errors.New("verify: Issuer is missing: the authorization server's issuer, such as https://login.example.com, is expected")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(c.Issuer, "/"):
		return fmt.Errorf("verify: Issuer %q: a URL without query, fragment and trailing slash is expected", c.Issuer)
	case u.Scheme != "https" && !(u.Scheme == "http" && c.Development && loopback(u.Hostname())):
		return fmt.Errorf("verify: Issuer %q must be https; on loopback, set Development to allow http", c.Issuer)
	case c.Audience == "":
		return errors.New("verify: Audience is missing: this API's identifier, as it was given to solegate client register --audience, is expected")
	}
	if err := c.completeDPoP(); err != nil {
		return err
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"ES256", "RS256", "PS256", "EdDSA"}
	}
	for _, a := range c.Algorithms {
		if !slices.Contains([]string{"ES256", "RS256", "PS256", "EdDSA"}, a) {
			return fmt.Errorf("verify: Algorithms has %q: ES256, RS256, PS256 and EdDSA are supported", a)
		}
	}
	if c.Leeway == 0 {
		c.Leeway = 10 * time.Second
	}
	if c.Leeway = max(c.Leeway, 0); c.Leeway > time.Minute {
		return fmt.Errorf("verify: Leeway is %s: at most a minute is expected", c.Leeway)
	}
	if c.MaxStale == 0 {
		c.MaxStale = 24 * time.Hour
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10000
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// completeDPoP completes what is about DPoP. PublicURL stays empty if there is
// nothing to know it from.
func (c *Config) completeDPoP() error {
	if c.PublicURL == "" {
		if u, err := url.Parse(c.Audience); err == nil && c.reachable(u) {
			c.PublicURL = u.Scheme + "://" + u.Host
		}
	} else if u, err := url.Parse(c.PublicURL); err != nil || !c.reachable(u) || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(c.PublicURL, "/") {
		return fmt.Errorf("verify: PublicURL %q: an https URL without query, fragment and trailing slash is expected, such as https://api.example.com; on loopback, set Development to allow http", c.PublicURL)
	}
	if c.RequireDPoP && c.PublicURL == "" {
		return errors.New("verify: RequireDPoP needs PublicURL, how the public reaches this API: a proof is made for it, and Audience is no https URL to take it from")
	}
	if len(c.DPoPNonceKey) > 0 && c.PublicURL == "" {
		return errors.New("verify: DPoPNonceKey needs PublicURL, how the public reaches this API: without it no DPoP is accepted")
	}
	if c.DPoPLifetime < 0 || c.DPoPLifetime > 5*time.Minute {
		return fmt.Errorf("verify: DPoPLifetime is %s: at most five minutes are expected", c.DPoPLifetime)
	}
	if n := len(c.DPoPNonceKey); n != 0 && n != 32 {
		return fmt.Errorf("verify: DPoPNonceKey has %d bytes: 32 random ones are expected, or none for no nonces", n)
	}
	return nil
}

// reachable reports whether a client can reach the URL with a proof.
func (c *Config) reachable(u *url.URL) bool {
	ascii := !strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) // as it stands in htu
	return u.Hostname() != "" && ascii && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && c.Development && loopback(u.Hostname()))
}

func loopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}
