package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/storage/redis"
)

// good is a configuration of package verify to which one part at a time is
// added, so that a mistake in it does not hide those in others.
var good = verify.Config{Issuer: "https://issuer.example", Audience: "api"}

// resourceServer gives the guard its credential, and what it can do with one:
// follow the feed and send reports.
func (c *configuration) resourceServer(config *verify.Config) {
	g := c.Guard
	if g.Credential == (credentialSettings{}) {
		for setting, wanted := range map[string]bool{"guard.feed": g.Feed, "guard.reports": g.Reports, "guard.stale_after": true, "guard.when_stale": true} {
			if at := c.origin[setting]; wanted && at != "" && at != defaultOrigin {
				c.mistakef(setting, "it needs a credential: make one with solegate resource register --audience %s, and set guard.credential", g.Audience)
			}
		}
		return
	}
	followed := &verify.Feed{StaleAfter: g.StaleAfter}
	switch g.WhenStale {
	case verify.Refuse.String():
	case verify.Continue.String():
		followed.WhenStale = verify.Continue
	case verify.Introspect.String():
		followed.WhenStale = verify.Introspect
	default:
		c.mistakef("guard.when_stale", "%q is none of refuse, continue, introspect", g.WhenStale)
	}
	try := good
	try.Credential, try.Feed = &verify.Credential{ID: "api", Secret: "s"}, followed
	if err := try.Validate(); err != nil || g.StaleAfter == 0 {
		c.mistakef("guard.stale_after", "%s: 10s to 10m are expected", g.StaleAfter)
	}
	credential, ok := c.credential()
	if !ok {
		return
	}
	config.Credential = credential
	if g.Feed {
		config.Feed = followed
	}
	if g.Reports {
		config.Reports = &verify.Reports{} // the guard knows the addresses
	}
}

// credential reads the guard's credential. No mistake has anything in it that a
// file holds.
func (c *configuration) credential() (credential *verify.Credential, ok bool) {
	s := c.Guard.Credential
	before := len(c.mistakes)
	if s.ID == "" {
		c.mistakef("guard.credential", "id is missing: the resource server's, as solegate resource register printed it")
	}
	credential = &verify.Credential{ID: s.ID, KeyID: s.KeyID}
	switch {
	case (s.SecretFile == "") == (s.KeyFile == ""):
		c.mistakef("guard.credential", "secret_file or key_file is expected, one of them")
	case s.SecretFile != "":
		if s.KeyID != "" {
			c.mistakef("guard.credential.key_id", "it is for key_file")
		}
		text, err := readFile(s.SecretFile)
		credential.Secret = strings.TrimRight(string(text), "\r\n")
		if err == nil && (credential.Secret == "" || len(credential.Secret) > 1000 || strings.ContainsAny(credential.Secret, " \t\r\n")) {
			err = errors.New(s.SecretFile + ": the secret alone is expected, in one line, as solegate resource register printed it")
		}
		if err != nil {
			c.mistakef("guard.credential.secret_file", "%v", err)
		}
	default:
		var err error
		if credential.Key, err = readSigner(s.KeyFile); err == nil {
			try := good
			try.Credential = &verify.Credential{ID: "api", Key: credential.Key}
			if try.Validate() != nil {
				err = errors.New(s.KeyFile + ": a P-256, an Ed25519 or an RSA key of 2048 bits at least is expected")
			}
		}
		if err != nil {
			c.mistakef("guard.credential.key_file", "%v", err)
		}
	}
	return credential, len(c.mistakes) == before
}

// readSigner reads a private key (PEM). No error holds what the file has.
func readSigner(path string) (crypto.Signer, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue // the parameters of a curve, which openssl writes before the key
		}
		if signer, ok := key.(crypto.Signer); err == nil && ok {
			return signer, nil
		}
		break
	}
	return nil, fmt.Errorf("%s: a private key without a passphrase (PEM) is expected; make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", path)
}

// warnOpen warns of secrets that others can read.
func (c *configuration) warnOpen(log *slog.Logger) {
	for setting, path := range map[string]string{"guard.credential.secret_file": c.Guard.Credential.SecretFile, "guard.credential.key_file": c.Guard.Credential.KeyFile} {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().Perm()&0o077 != 0 {
			log.Warn("a secret can be read by others; run chmod 600 on it", "setting", setting, "file", path, "mode", info.Mode().String())
		}
	}
}

// limits puts the limits into the guard's configuration. It returns the setting
// that each of them is of.
func (c *configuration) limits(config *guard.Config) (names []string) {
	g := c.Guard
	for i, text := range g.Limits {
		name := fmt.Sprintf("guard.limits[%d]", i)
		l, err := guard.ParseLimit(text)
		if err != nil {
			c.mistakef(name, "%v", err)
			continue
		}
		config.Limits, names = append(config.Limits, l), append(names, name)
	}
	try := good
	try.Limits.Accounts = g.LimitsAccounts
	if err := try.Validate(); err != nil || g.LimitsAccounts == 0 {
		c.mistakef("guard.limits_accounts", "%d is not between 1 and 268435456", g.LimitsAccounts)
	} else {
		config.Verify.Limits.Accounts = g.LimitsAccounts
	}
	if g.LimitsStore == "" {
		return names
	}
	if err := redis.Validate(g.LimitsStore); err != nil {
		c.mistakef("guard.limits_store", "%v", err)
	}
	if len(g.Limits) == 0 {
		c.mistakef("guard.limits_store", "there are no guard.limits to share")
	}
	return names
}
