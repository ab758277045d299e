package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// settings is the configuration. A setting comes, in order of weight, from a
// flag, the environment, the file, or its default. Each field's doc is its line
// in the table of the README.
type settings struct {
	Issuer      string `yaml:"issuer" doc:"The server's public origin, exactly as browsers and APIs reach it, such as https://login.example.com. Required."`
	Listen      string `yaml:"listen" default:"127.0.0.1:8080" doc:"Address and port to listen on."`
	Store       string `yaml:"store" default:"solegate.db" doc:"Where everything is kept: the path of an SQLite file, or redis://, redis+sentinel:// or redis+cluster:// and where; see More than one machine."`
	Development bool   `yaml:"development" doc:"Allow http on loopback for the issuer and for clients. Only for trying things out on one machine."`

	MasterKeyFile          string   `yaml:"master_key_file" doc:"File with the master key that seals private keys in the store; make it with solegate key generate-master. In development one is made beside the SQLite file."`
	MasterKey              string   `yaml:"master_key" secret:"true" doc:"The master key itself, only from the environment, in place of the file."`
	PreviousMasterKeyFiles []string `yaml:"previous_master_key_files" doc:"Files with master keys that were in use before, until solegate key reseal has run."`

	TLS struct {
		Certificate string `yaml:"certificate" doc:"Certificate chain (PEM). With it the server speaks TLS itself; without it plain HTTP, for a proxy in front. Read again when it changes."`
		Key         string `yaml:"key" doc:"Private key of the certificate (PEM)."`
	} `yaml:"tls"`

	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" doc:"Networks of the proxies in front, such as 10.0.0.0/8: only they may say, in X-Forwarded-For, where a request comes from."`

	AccessTokenAlg string        `yaml:"access_token_alg" default:"ES256" doc:"How access tokens are signed: ES256, RS256 or EdDSA."`
	FeedHeartbeat  time.Duration `yaml:"feed_heartbeat" default:"5s" doc:"How often a stream of the revocation feed on which nothing happens says so, 1s to 1m. The StaleAfter of every API must be three times as long: 30s unless it says otherwise."`

	StatusList bool `yaml:"status_list" doc:"Give access tokens a status claim, some 170 characters, and serve the Token Status Lists that it names, for APIs whose library reads them: keys/verify/README.md. The same at all servers."`

	Lifetimes struct {
		AccessToken  time.Duration `yaml:"access_token" default:"5m" doc:"Life of an access token, at most 1h. An API that verifies locally accepts a token for so long."`
		IDToken      time.Duration `yaml:"id_token" default:"5m" doc:"Life of an ID token, at most 1h."`
		Code         time.Duration `yaml:"code" default:"1m" doc:"Life of an authorization code, at most 1m."`
		RefreshIdle  time.Duration `yaml:"refresh_idle" default:"24h" doc:"A grant that is not refreshed for so long ends."`
		RefreshLife  time.Duration `yaml:"refresh_life" default:"168h" doc:"A grant ends after so long, however it is used."`
		RefreshGrace time.Duration `yaml:"refresh_grace" default:"10s" doc:"How long a refresh token may be presented again, by another tab or after a lost answer; at most 1m."`
		SessionIdle  time.Duration `yaml:"session_idle" default:"24h" doc:"A login session that is not used for so long ends."`
		SessionLife  time.Duration `yaml:"session_life" default:"168h" doc:"A login session, and every grant that came of it, ends after so long."`
		Login        time.Duration `yaml:"login" default:"10m" doc:"How long a person may take to sign in, at most 1h."`
	} `yaml:"lifetimes"`

	Keys struct {
		RotateEvery  time.Duration `yaml:"rotate_every" default:"2160h" doc:"How long a signing key signs."`
		PublishAhead time.Duration `yaml:"publish_ahead" default:"24h" doc:"How long a signing key is published before it signs."`
	} `yaml:"keys"`

	Login struct {
		BindAddress bool `yaml:"bind_address" doc:"Also bind the login form to the client's address."`
	} `yaml:"login"`

	BackchannelLogout struct {
		AllowNetworks []netip.Prefix `yaml:"allow_networks" doc:"Networks of your own, such as 10.1.0.0/16, where a client's backchannel_logout_uri may lead. Otherwise only public addresses are told of a logout."`
	} `yaml:"backchannel_logout"`

	Admin struct {
		Enabled bool          `yaml:"enabled" doc:"Serve the operator's API under /admin, to the access tokens of operators; see The operator's API."`
		MaxAge  time.Duration `yaml:"max_age" default:"1h" doc:"How long ago an operator may have signed in, between 1m and 24h."`
		Socket  string        `yaml:"socket" doc:"Serve it on a Unix socket at this path, too: whoever may open it, which is the server's own user and root, is an operator."`
	} `yaml:"admin"`

	Password struct {
		Memory     uint32 `yaml:"memory" default:"65536" doc:"Memory of a password hash (Argon2id), in KiB."`
		Time       uint32 `yaml:"time" default:"3" doc:"Passes of a password hash."`
		Threads    uint8  `yaml:"threads" default:"1" doc:"Threads of a password hash."`
		Concurrent int    `yaml:"concurrent" default:"0" doc:"Password hashes that run at once; 0 means half of the processors, 4 at most."`
	} `yaml:"password"`

	Abuse struct {
		DryRun         bool           `yaml:"dry_run" doc:"Decide by the rules, and do nothing: what would have been done is in the audit log and in solegate abuse list."`
		SuspendPerHour int            `yaml:"suspend_per_hour" default:"10" doc:"How many accounts in an hour the rules may suspend, or end the sessions of, at all servers together. What is beyond it is withheld, and done later if the rule is met then."`
		ExemptUsers    []string       `yaml:"exempt_users" doc:"Names or ids of accounts to which no rule does anything. Reports of them are kept."`
		ExemptClients  []string       `yaml:"exempt_clients" doc:"Ids of clients whose tokens count for no rule. Reports of them are kept."`
		Keep           time.Duration  `yaml:"keep" default:"2160h" doc:"How long what was reported of an account is kept after the last change, 24h at least."`
		Rules          []ruleSettings `yaml:"rules" doc:"What becomes of accounts that are reported; without any, reports are kept and nothing is done. See When an account misuses the API."`
		Notice         string         `yaml:"notice" doc:"What a person whose account is suspended reads who signs in with the right password, in words of yours; at most 500 characters of plain text. Until when it lasts is added."`
	} `yaml:"abuse"`

	Log struct {
		Format string `yaml:"format" default:"text" doc:"text or json, on standard error."`
		Level  string `yaml:"level" default:"info" doc:"debug, info, warn or error; the audit log is written at every level."`
	} `yaml:"log"`

	Audit struct {
		Keep time.Duration `yaml:"keep" default:"2160h" doc:"How long a line of the audit log is kept; 0 for ever, and then all that comes after it, too."`
	} `yaml:"audit"`

	Runtime struct {
		GCPercent   int    `yaml:"gc_percent" default:"300" doc:"How much the heap may grow between garbage collections (GOGC)."`
		MemoryLimit string `yaml:"memory_limit" default:"512MiB" doc:"Above this the collector works harder whatever gc_percent says (GOMEMLIMIT); off for none."`
	} `yaml:"runtime"`

	Guard guardSettings `yaml:"guard" doc:"Settings of solegate guard, in a file of its own: keys/verify/README.md."`

	Clients []clientSettings `yaml:"clients" doc:"Clients declared in the file. They are written to the store at each start, and the command line does not change them. Their settings: clients/README.md."`
}

// mistake is one thing wrong with the configuration, and where it stands.
type mistake struct{ where, text string }

func (m mistake) Error() string { return m.where + ": " + m.text }

func (c *configuration) mistakef(setting, format string, args ...any) {
	where := setting
	at, ok := c.origin[setting]
	if list, _, item := strings.Cut(setting, "["); item && !ok { // one of a flag's, or the environment's
		at, ok = c.origin[list]
	}
	if ok && at != defaultOrigin {
		where = at + ": " + setting
	}
	c.mistakes = append(c.mistakes, mistake{where, fmt.Sprintf(format, args...)})
}
