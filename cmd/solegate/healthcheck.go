package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) healthcheck() *cobra.Command {
	cmd := &cobra.Command{
		Use: "healthcheck [URL]", Short: "Ask a running server whether it is alive (for containers)", Args: cobra.MaximumNArgs(1),
		Long: "Ask a running server whether it is alive, for containers.\n\nWithout a URL it asks where serve with the same configuration listens, or guard at\nits guard.health_listen, by TLS if tls.certificate\nis set, and does not verify the name in the certificate. At a URL it does.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			var base *url.URL
			if len(args) == 1 {
				base, err = url.Parse(args[0])
				if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
					return usagef("%q is no URL: write http://127.0.0.1:8080 or https://login.example.com", args[0])
				}
			} else {
				if base, err = c.own(); err != nil {
					return err
				}
				// The certificate is for the public name, not for the loopback
				// that is asked. Whoever answers there instead learns nothing
				// and can say no more than that it is alive. No proxy either:
				// it has a loopback of its own.
				client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("livez").String(), nil)
			if err != nil {
				return usageError{err}
			}
			resp, err := client.Do(r)
			if err != nil {
				return fmt.Errorf("%w; is the server running there?", err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answered %d, 200 expected: see the server's log", r.URL, resp.StatusCode)
			}
			return a.answer(map[string]bool{"ok": true}, "ok\n")
		},
	}
	settingFlags(cmd, nil, "listen", "tls.certificate")
	return cmd
}

// own is where this machine reaches a server with the configuration.
func (c *configuration) own() (*url.URL, error) {
	setting, address := "listen", c.Listen
	if c.guards() { // which has these paths at an address of their own
		setting, address = "guard.health_listen", c.Guard.HealthListen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no address: write 127.0.0.1:8080, or :8080 for all addresses", setting, address)
	}
	// All addresses is none that can be asked. Loopback is one of them; also of
	// [::], which takes IPv4 and may be there without IPv6, as in many containers.
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "127.0.0.1"
	}
	own := &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if c.TLS.Certificate != "" && !c.guards() {
		own.Scheme = "https"
	}
	return own, nil
}
