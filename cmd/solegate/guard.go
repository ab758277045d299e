package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/storage/redis"
)

func (a *app) guard() *cobra.Command {
	cmd := &cobra.Command{
		Use: "guard", Short: "Guard an API that is not written in Go", Args: cobra.NoArgs,
		Long: "Guard an API that is not written in Go: check each request's token, its proof, origin and\nscopes, and pass on the good ones with the identity in headers, or answer a proxy that asks.\n\n" +
			"With a credential (solegate resource register) what was revoked is refused at once, and\nwho goes beyond a limit is reported to the issuer.\n\n" +
			"The API must listen where nobody else can reach it: on loopback or in a private network.",
		Example: "  solegate guard --issuer https://login.example.com --audience https://api.example.com \\\n" +
			"    --upstream http://127.0.0.1:3000 --listen 127.0.0.1:8443 --route 'GET /orders=orders:read'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			if c.checkGuard(); len(c.mistakes) > 0 {
				return c.err()
			}
			return a.runGuard(cmd.Context(), c)
		},
	}
	settingFlags(cmd, func(l leaf) bool { return !l.serverOnly() })
	return cmd
}

// runGuard serves until ctx ends.
func (a *app) runGuard(ctx context.Context, c *configuration) error {
	log := a.prepare(c)
	listener, err := listen(c.Listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	// What lives on, a WebSocket, ends with background; requests don't.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	config := c.guardConfig()
	config.Verify.Log = log
	c.warnOpen(log)
	if c.Guard.LimitsStore != "" {
		limiter, err := redis.NewLimiter(c.Guard.LimitsStore)
		if err != nil {
			return err
		}
		defer limiter.Close()
		// Nothing waits for it, so nothing has to be refused for it.
		if err := limiter.Ping(ctx); err != nil {
			log.Error("the limits can't be shared; each guard goes on with its own until it can", "limits_store", shown(c.Guard.LimitsStore), "error", err)
		}
		config.Verify.Limits.Shared = charges{limiter}
	}
	g, err := guard.New(background, config)
	if err != nil {
		return err
	}

	web := newWeb(g, log)
	web.Protocols = new(http.Protocols)
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetHTTP2(true)
	web.Protocols.SetUnencryptedHTTP2(true) // for a proxy in front
	if web.TLSConfig, err = c.tls(log); err != nil {
		return err
	}
	secure := web.TLSConfig != nil
	failed := make(chan error, 2)
	go func() {
		if secure {
			failed <- web.ServeTLS(listener, "", "")
		} else {
			failed <- web.Serve(listener)
		}
	}()
	if c.Guard.HealthListen != "" {
		beside, err := listen(c.Guard.HealthListen, "--health-listen")
		if err != nil {
			web.Close()
			return err
		}
		server := newWeb(health(g, ctx), log)
		defer server.Close()
		go func() { failed <- server.Serve(beside) }()
	}
	where := slog.String("upstream", c.Guard.Upstream)
	if c.Guard.Upstream == "" {
		where = slog.String("forward_auth", c.Guard.ForwardAuth)
	}
	log.Info("guarding", "issuer", c.Issuer, "audience", c.Guard.Audience, "listen", listener.Addr().String(), "tls", secure, "routes", len(config.Routes), "limits", len(config.Limits), "feed", config.Verify.Feed != nil, where)
	if openToAll(c.Guard.Upstream) {
		log.Warn("the upstream is at a public address: who reaches it there gets by the guard; let it listen on loopback or in a private network", "upstream", c.Guard.Upstream)
	}

	select {
	case err = <-failed:
		web.Close()
	case <-ctx.Done():
		log.Info("stopping: requests under way are finished first, WebSockets and event streams are closed")
		stop()
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		if err = web.Shutdown(deadline); errors.Is(err, context.DeadlineExceeded) {
			log.Warn("requests that are still under way are broken off", "after", shutdownTimeout)
			err = web.Close()
		}
		cancel()
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := g.Close(deadline); err != nil {
		log.Warn("reports of the last moments are lost", "error", err)
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// openToAll reports whether an upstream is named by a public address.
func openToAll(upstream string) bool {
	u, err := url.Parse(upstream)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast()
}
