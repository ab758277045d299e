package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/guard"
)

// guardSettings are those that only solegate guard has. issuer, listen, tls,
// trusted_proxies, development, log and runtime it shares with serve. Each
// field's doc is its line in the table of keys/verify/README.md.
type guardSettings struct {
	Audience    string `yaml:"audience" doc:"The API's identifier, exactly as tokens have it in aud. Required."`
	Upstream    string `yaml:"upstream" doc:"The API: http://, https:// or h2c:// (HTTP/2 without TLS), a host and a port, such as http://127.0.0.1:3000."`
	UpstreamCA  string `yaml:"upstream_ca" doc:"CA certificates (PEM) of an https upstream, in place of the system's."`
	ForwardAuth string `yaml:"forward_auth" doc:"In place of upstream, answer a proxy that asks whether a request may pass; where it says which: x-forwarded (X-Forwarded-Method, X-Forwarded-Uri: Caddy, Traefik), x-original (X-Original-Method, X-Original-URI: nginx) or request (the request itself: Envoy). Only trusted_proxies may ask; none means loopback."`

	Routes []string `yaml:"routes" flag:"route" doc:"What there is and the scopes it takes, with spaces between, such as 'GET /orders=orders:read'; and max_age=1m or acr=NAME for a fresh login. What no route names is refused. The flag may stand several times."`
	Public []string `yaml:"public" flag:"public" doc:"Routes for everybody, without any check, such as 'GET /health'. The flag may stand several times."`

	Credential credentialSettings `yaml:"credential"`
	Feed       bool               `yaml:"feed" default:"true" doc:"With a credential, follow the issuer's revocation feed: what was revoked is refused within a second, and what is open is closed."`
	StaleAfter time.Duration      `yaml:"stale_after" default:"30s" doc:"How long there may be no word from the issuer before when_stale applies: 10s to 10m."`
	WhenStale  string             `yaml:"when_stale" default:"refuse" doc:"What happens to requests then: refuse (503), continue (they pass, with an alarm) or introspect (the issuer is asked about each token)."`
	Reports    bool               `yaml:"reports" default:"true" doc:"With a credential, tell the issuer which accounts go beyond a limit."`

	Limits         []string `yaml:"limits" flag:"limit" doc:"How much an account may ask for: [route] account, client or account-client, requests/time, and if need be burst and name: 'account 100/1m burst 50' or 'GET /orders account 10/1s'. The flag may stand several times."`
	LimitsAccounts int      `yaml:"limits_accounts" default:"1000000" doc:"For how many accounts at a time there is room, 16 to 48 bytes for each. More than that share a few limits."`
	LimitsStore    string   `yaml:"limits_store" doc:"A Redis in which several guards count together, as in store: redis://, redis+sentinel:// or redis+cluster://; the password belongs into a file, ?password_file=. Without it each counts for itself, and when it is away, too."`

	Origins          []string      `yaml:"origins" doc:"Web origins whose pages may call. With it the guard speaks CORS, without it the API may."`
	RequiredHeader   string        `yaml:"required_header" doc:"A header that each request must have, such as X-Requested-With."`
	PublicURL        string        `yaml:"public_url" doc:"How the public reaches the API, for DPoP; the audience's host if it is an https URL."`
	RequireDPoP      bool          `yaml:"require_dpop" doc:"Refuse tokens that are not bound to a key."`
	DPoPNonceKeyFile string        `yaml:"dpop_nonce_key_file" doc:"File with 32 random bytes in hexadecimal or base64, the same for all replicas, as solegate key generate-master makes them (but not those of the server): each proof then needs a nonce."`
	PassAuth         bool          `yaml:"pass_authorization" doc:"Leave Authorization and DPoP in what the API gets."`
	Timeout          time.Duration `yaml:"timeout" default:"1m" doc:"How long the API may take until it begins to answer, and a client may pause in the middle."`
	HealthListen     string        `yaml:"health_listen" doc:"Address and port for /livez, /readyz and /metrics, by plain HTTP; none if empty."`
}

// credentialSettings are how the guard proves to the issuer that it is a
// registered resource server. No secret is in them.
type credentialSettings struct {
	ID         string `yaml:"id" doc:"The resource server's identifier, which solegate resource register prints. With it the guard follows the feed and sends reports."`
	SecretFile string `yaml:"secret_file" doc:"File with the resource server's secret and nothing else."`
	KeyFile    string `yaml:"key_file" doc:"In place of a secret, the file with the private key (PEM) whose public half is registered: no secret is ever sent."`
	KeyID      string `yaml:"key_id" doc:"The kid of that key, if there are several in the registered key set."`
}

// serverOnly and guardOnly tell whose a setting is. What is neither is of both.
func (l leaf) guardOnly() bool { return strings.HasPrefix(l.name, "guard.") }

func (l leaf) serverOnly() bool {
	first, _, _ := strings.Cut(l.name, ".")
	return !l.guardOnly() && !slices.Contains([]string{"issuer", "listen", "development", "tls", "trusted_proxies", "log", "runtime"}, first)
}

// guards reports whether the configuration has settings of a guard.
func (c *configuration) guards() bool {
	for _, l := range leaves(reflect.ValueOf(&c.settings).Elem(), "") {
		if at := c.origin[l.name]; l.guardOnly() && at != "" && at != defaultOrigin {
			return true
		}
	}
	return false
}

// guardConfig is the guard's configuration, without log. What can't be is noted
// as a mistake.
func (c *configuration) guardConfig() guard.Config {
	g := c.Guard
	config := guard.Config{
		Verify: verify.Config{
			Issuer: c.Issuer, Audience: g.Audience, Development: c.Development, Origins: g.Origins,
			RequiredHeader: g.RequiredHeader, PublicURL: g.PublicURL, RequireDPoP: g.RequireDPoP,
		},
		Upstream: g.Upstream, ForwardAuth: guard.ForwardAuth(g.ForwardAuth), TrustedProxies: c.TrustedProxies,
		PassAuthorization: g.PassAuth, Timeout: g.Timeout,
	}
	var names []string
	for i, text := range g.Routes {
		name := fmt.Sprintf("guard.routes[%d]", i)
		r, err := guard.ParseRoute(text)
		if err != nil {
			c.mistakef(name, "%v", err)
			continue
		}
		config.Routes, names = append(config.Routes, r), append(names, name)
	}
	for i, text := range g.Public {
		name := fmt.Sprintf("guard.public[%d]", i)
		r, err := guard.ParseRoute(text)
		if err == nil && (len(r.Scopes) > 0 || r.Login.MaxAge != 0 || r.Login.ACR != nil) {
			err = fmt.Errorf("%q: it is public and demands something: name it in guard.routes", text)
		}
		if err != nil {
			c.mistakef(name, "%v", err)
			continue
		}
		r.Public = true
		config.Routes, names = append(config.Routes, r), append(names, name)
	}
	var err error
	if g.DPoPNonceKeyFile != "" {
		if config.Verify.DPoPNonceKey, err = readKey(g.DPoPNonceKeyFile); err != nil {
			c.mistakef("guard.dpop_nonce_key_file", "%v", err)
		}
	}
	if g.UpstreamCA != "" {
		if config.UpstreamTLS, err = trusting(g.UpstreamCA); err != nil {
			c.mistakef("guard.upstream_ca", "%v", err)
		}
	}
	c.resourceServer(&config.Verify)
	limits := c.limits(&config)
	for _, p := range config.Problems() {
		var i int
		switch {
		case p.Field == "Routes" && len(g.Routes)+len(g.Public) > 0: // each has its own mistake
		case strings.HasPrefix(p.Field, "Routes["):
			fmt.Sscanf(p.Field, "Routes[%d]", &i)
			c.mistakef(names[i], "%s", p.Text)
		case strings.HasPrefix(p.Field, "Limits["):
			fmt.Sscanf(p.Field, "Limits[%d]", &i)
			c.mistakef(limits[i], "%s", p.Text)
		case p.Field == "Verify":
			setting, text := verifySetting(p.Text)
			c.mistakef(setting, "%s", text)
		default:
			c.mistakef(map[string]string{"Upstream": "guard.upstream", "ForwardAuth": "guard.forward_auth", "Timeout": "guard.timeout", "Routes": "guard.routes"}[p.Field], "%s", p.Text)
		}
	}
	return config
}

// verifySetting tells of which setting an error of package verify is, by the
// field that it begins with.
func verifySetting(text string) (setting, rest string) {
	text = strings.TrimPrefix(text, "verify: ")
	field, _, _ := strings.Cut(text, " ")
	setting, ok := map[string]string{
		"Issuer": "issuer", "Audience": "guard.audience", "PublicURL": "guard.public_url", "RequireDPoP": "guard.require_dpop", "DPoPNonceKey": "guard.dpop_nonce_key_file",
	}[field]
	if !ok {
		setting = "guard"
	}
	return setting, text
}

// checkGuard notes everything that solegate guard would refuse.
func (c *configuration) checkGuard() {
	c.checkShared()
	c.guardConfig()
	if h := c.Guard.HealthListen; h != "" {
		if _, port, err := net.SplitHostPort(h); err != nil || port == "" || h == c.Listen {
			c.mistakef("guard.health_listen", "%q is no address of its own: write 127.0.0.1:8081", h)
		}
	}
	for _, l := range leaves(reflect.ValueOf(&c.settings).Elem(), "") {
		// A file of both would be the guard's by mistake.
		if at := c.origin[l.name]; l.serverOnly() && strings.HasPrefix(at, c.file+":") && c.file != "" {
			c.mistakef(l.name, "a guard has no such setting: a server and a guard have a file each")
		}
	}
	for _, list := range []struct {
		name string
		n    int
	}{{"clients", len(c.Clients)}, {"abuse.rules", len(c.Abuse.Rules)}} {
		if list.n > 0 {
			c.mistakef(list.name, "a guard has no such setting: a server and a guard have a file each")
		}
	}
}

// readKey reads 32 random bytes. No error holds what the file has.
func readKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := strings.TrimSpace(string(text))
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != 32 {
		key, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "="))
	}
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s: 32 bytes in hexadecimal or base64 are expected; make them with: solegate key generate-master", path)
	}
	return key, nil
}

// trusting trusts the CAs of a file and no others.
func trusting(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New(path + ": it has no certificate (PEM)")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}
