package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz"
)

func (a *app) token() *cobra.Command {
	status := &cobra.Command{
		Use: "status", Short: "Say whether the access token on standard input is active, and if not why", Args: cobra.NoArgs,
		RunE: a.tokenStatus,
	}
	operatorFlags(status)
	return group("token", "Look at tokens", status)
}

// maxToken is more than any token of ours has, in bytes.
const maxToken = 16 << 10

// readToken reads one line of standard input. A token is never an argument:
// others see those, and shells keep them.
func (a *app) readToken() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxToken+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch line = strings.TrimSpace(line); {
	case line == "":
		return "", usagef("an access token is expected on standard input")
	case len(line) > maxToken:
		return "", usagef("an access token is expected on standard input: what is there has more than %d bytes", maxToken)
	}
	return line, nil
}

func (a *app) tokenStatus(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		token, err := a.readToken()
		if err != nil {
			return err
		}
		ring, err := o.ring(ctx, o.store, slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			return err
		}
		s, err := authz.DescribeToken(ctx, authz.Config{Issuer: o.Issuer, Development: o.Development, Store: o.store, Ring: ring}, token)
		if err != nil {
			return err
		}
		state := "active"
		if !s.Active {
			state = "not active: " + s.Reason
		}
		return a.table(s, "FIELD\tVALUE", func(row func(string, ...any)) {
			row("state\t%s", state)
			for _, f := range []struct{ name, value string }{
				{"detail", s.Detail}, {"user", s.User}, {"user id", string(s.UserID)}, {"client", s.Client}, {"session", string(s.Session)},
				{"grant", string(s.Grant)}, {"token", s.ID}, {"audience", s.Audience}, {"scope", s.Scope}, {"bound to key", s.JKT},
			} {
				if f.value != "" {
					row("%s\t%s", f.name, f.value)
				}
			}
			if !s.IssuedAt.IsZero() {
				row("issued\t%s", when(s.IssuedAt))
				row("expires\t%s", when(s.ExpiresAt))
			}
		})
	})
}
