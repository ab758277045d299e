package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage/redis"
)

func (a *app) config() *cobra.Command {
	check := &cobra.Command{
		Use: "check", Short: "Tell every mistake in the configuration, with its place", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			c.check()
			if len(c.mistakes) == 0 {
				return a.answer(map[string]any{"ok": true, "mistakes": []string{}}, "The configuration is good.\n")
			}
			if a.json {
				texts := make([]string, len(c.mistakes))
				for i, m := range c.mistakes {
					texts[i] = m.Error()
				}
				a.answer(map[string]any{"ok": false, "mistakes": texts}, "")
			}
			return c.err()
		},
	}
	show := &cobra.Command{
		Use: "show", Short: "Show every setting and where it comes from", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			type row struct {
				Setting string `json:"setting"`
				Value   string `json:"value"`
				From    string `json:"from"`
			}
			var list []row
			for _, l := range leaves(reflect.ValueOf(&c.settings).Elem(), "") {
				value := fmt.Sprint(l.value.Interface())
				if l.field.Tag.Get("secret") != "" && value != "" {
					value = "(hidden)"
				}
				if l.name == "store" || l.name == "guard.limits_store" && value != "" {
					value = shown(value)
				}
				list = append(list, row{l.name, value, c.origin[l.name]})
			}
			if err := a.table(list, "SETTING\tVALUE\tFROM", func(print func(string, ...any)) {
				for _, r := range list {
					print("%s\t%s\t%s", r.Setting, r.Value, r.From)
				}
			}); err != nil {
				return err
			}
			c.check()
			return c.err()
		},
	}
	settingFlags(check, nil)
	settingFlags(show, nil)
	return group("config", "Look at the configuration", check, show)
}

// err returns all mistakes, a line each, or nil.
func (c *configuration) err() error {
	var errs []error
	for _, m := range c.mistakes {
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}

// authz is the server's part of the configuration, without store and keys.
func (c *configuration) authz() authz.Config {
	l := c.Lifetimes
	return authz.Config{
		Issuer: c.Issuer, Development: c.Development, AccessTokenAlg: keys.Algorithm(c.AccessTokenAlg),
		Lifetimes: authz.Lifetimes{
			AccessToken: l.AccessToken, IDToken: l.IDToken, Code: l.Code, RefreshIdle: l.RefreshIdle, RefreshLife: l.RefreshLife,
			RefreshGrace: l.RefreshGrace, SessionIdle: l.SessionIdle, SessionLife: l.SessionLife, Login: l.Login,
		},
		Password:           c.password(),
		BindLoginToAddress: c.Login.BindAddress,
		TrustedProxies:     c.TrustedProxies,
		LogoutNetworks:     c.BackchannelLogout.AllowNetworks,
		StatusList:         c.StatusList,
		Admin:              c.Admin.Enabled,
		AdminMaxAge:        c.Admin.MaxAge,
		SuspendedNotice:    c.Abuse.Notice,
		Abuse:              c.policy(),
		FeedHeartbeat:      c.FeedHeartbeat,
	}
}

func (c *configuration) password() password.Params {
	return password.Params{Memory: c.Password.Memory, Time: c.Password.Time, Threads: c.Password.Threads, Concurrent: c.Password.Concurrent}
}

// check notes everything that solegate guard would refuse if the configuration
// has settings of its own, and else what serve would.
func (c *configuration) check() {
	if c.guards() {
		c.checkGuard()
	} else {
		c.checkServer()
	}
}

// checkShared notes what is wrong with the settings that serve and guard share.
func (c *configuration) checkShared() {
	host, port, err := net.SplitHostPort(c.Listen)
	if n, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil || n == 0 && !c.Development {
		c.mistakef("listen", "%q is no address: write 127.0.0.1:8080, or :8080 for all addresses", c.Listen)
	}
	if c.Development && err == nil {
		if address, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !address.IsLoopback()) {
			c.mistakef("listen", "%q: development mode listens on loopback only; write 127.0.0.1:8080", c.Listen)
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		c.mistakef("tls", "certificate and key belong together: set both or neither")
	}
	if f := c.Log.Format; f != "text" && f != "json" {
		c.mistakef("log.format", "%q is neither text nor json", f)
	}
	if _, err := c.level(); err != nil {
		c.mistakef("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	if p := c.Runtime.GCPercent; p < 10 || p > 10_000 {
		c.mistakef("runtime.gc_percent", "%d is not between 10 and 10000", p)
	}
	if _, err := c.memoryLimit(); err != nil {
		c.mistakef("runtime.memory_limit", "%v", err)
	}
}

// checkServer notes everything that serve would refuse, without opening the
// store.
func (c *configuration) checkServer() {
	if c.guards() {
		c.mistakef("guard", "these are settings of a guard: run solegate guard with this configuration, and the server with another")
	}
	az := c.authz()
	for _, p := range az.Problems() {
		c.wrongSetting(p.Setting, p.Text)
	}
	c.checkAbuse()
	if h := c.FeedHeartbeat; h >= 0 && h < time.Second {
		c.mistakef("feed_heartbeat", "%s is not between 1s and 1m", h)
	}
	c.checkShared()
	switch {
	case c.MasterKey != "" && c.MasterKeyFile != "":
		c.mistakef("master_key", "it is set beside master_key_file: set one of them")
	case c.MasterKey != "":
		if _, err := keys.ParseMaster([]byte(c.MasterKey)); err != nil {
			c.mistakef("master_key", "%v", err)
		}
	case c.MasterKeyFile == "" && !c.Development:
		c.mistakef("master_key_file", "%v", errNoMasterKey)
	}
	if c.Store == "" {
		c.mistakef("store", "it is empty: name an SQLite file, or a Redis by its URL")
	}
	if isURL(c.Store) {
		if err := redis.Validate(c.Store); err != nil {
			c.mistakef("store", "%v", err)
		}
	}
	if k := c.Keys; k.RotateEvery < time.Hour {
		c.mistakef("keys.rotate_every", "%s is less than 1h", k.RotateEvery)
	} else if k.PublishAhead < 10*time.Minute || k.PublishAhead > k.RotateEvery/2 {
		c.mistakef("keys.publish_ahead", "%s is not between 10m and half of keys.rotate_every", k.PublishAhead)
	}
	if keep := c.Audit.Keep; keep != 0 && (keep < time.Hour || keep > maxAuditKeep) {
		c.mistakef("audit.keep", "%s is not between 1h and %s: 0 is for ever", keep, maxAuditKeep)
	}
	if _, err := password.New(c.password(), nil); err != nil {
		c.mistakef("password", "%v", err)
	}
	if c.Password.Memory < 8192 && !c.Development {
		c.mistakef("password.memory", "%d KiB is too little to hold off guessing: 19456 at least, better 65536", c.Password.Memory)
	}
	c.checkClients()
}

// maxAuditKeep is ten years: longer than that is for ever.
const maxAuditKeep = 10 * 365 * 24 * time.Hour

func as[T ~string](list []string) []T {
	var typed []T
	for _, s := range list {
		typed = append(typed, T(s))
	}
	return typed
}

func (c *configuration) level() (slog.Level, error) {
	var l slog.Level
	return l, l.UnmarshalText([]byte(c.Log.Level))
}

// memoryLimit returns the limit in bytes, or 0 for none.
func (c *configuration) memoryLimit() (int64, error) {
	text := c.Runtime.MemoryLimit
	if text == "off" || text == "" {
		return 0, nil
	}
	for suffix, unit := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			if n, err := strconv.ParseInt(number, 10, 32); err == nil && n > 0 {
				return n * unit, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no amount of memory: write 512MiB, 2GiB or off", text)
}

// tune sets the garbage collector.
func (c *configuration) tune() {
	debug.SetGCPercent(c.Runtime.GCPercent)
	if limit, err := c.memoryLimit(); err == nil && limit > 0 {
		debug.SetMemoryLimit(limit)
	}
}
