package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func (a *app) client() *cobra.Command {
	register := &cobra.Command{Use: "register", Short: "Register the single-page app, or its backend", Args: cobra.NoArgs, RunE: a.clientRegister,
		Long: "Register the single-page app, or its backend, and print what to paste into it.\n\n" +
			"An app in a browser is public: it has no secret, and needs --redirect-uri, --origin\nand --audience. A backend is confidential: it says by --auth-method how it proves\nwho it is, and has no --origin.",
		Example: "  solegate client register --redirect-uri https://app.example.com/callback \\\n" +
			"    --origin https://app.example.com --audience https://api.example.com\n" +
			"  solegate client register --auth-method private_key_jwt --jwks backend.jwks.json --profile hardened \\\n" +
			"    --redirect-uri https://backend.example.com/callback --audience https://api.example.com\n" +
			"  solegate client register --auth-method client_secret_basic --grant-type client_credentials \\\n" +
			"    --audience https://api.example.com --scope orders:read"}
	update := &cobra.Command{Use: "update ID", Short: "Change a client; what is not given stays", Args: cobra.ExactArgs(1), RunE: a.clientUpdate}
	for _, cmd := range []*cobra.Command{register, update} {
		addClientFlags(cmd)
	}
	register.Flags().String("id", "", "the client id (default: a random one)")
	settingFlags(register, nil, "issuer")

	list := &cobra.Command{Use: "list", Short: "List the clients", Args: cobra.NoArgs, RunE: a.clientList}
	show := &cobra.Command{Use: "show ID", Short: "Show a client", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return a.operate(cmd, func(ctx context.Context, o *operator) error {
			c, err := o.findClient(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showClient(c, "")
		})
	}}
	rotate := &cobra.Command{Use: "rotate-secret ID", Short: "Replace a backend's secret; the old one is worth nothing at once", Args: cobra.ExactArgs(1), RunE: a.clientRotateSecret}
	act := func(use, short, done string, do func(context.Context, *operator, clients.ID) error) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				c, err := o.findClient(ctx, args[0])
				if err != nil {
					return err
				}
				if c.Declared {
					return errDeclared(c.ID)
				}
				if err := do(ctx, o, c.ID); err != nil {
					return err
				}
				return a.answer(map[string]string{"client_id": string(c.ID), "done": done}, "Client %s is %s.\n", c.ID, done)
			})
		}}
	}
	disable := act("disable", "Refuse all requests of a client and end its grants", "disabled", func(ctx context.Context, o *operator, id clients.ID) error { return o.revoker.DisableClient(ctx, id) })
	enable := act("enable", "Let a client start again", "enabled", func(ctx context.Context, o *operator, id clients.ID) error { return o.revoker.EnableClient(ctx, id) })
	remove := act("remove", "Remove a client and end its grants", "removed", func(ctx context.Context, o *operator, id clients.ID) error { return o.revoker.RemoveClient(ctx, id) })
	operatorFlags(register, update, list, show, rotate, disable, enable, remove)
	return group("client", "Register and change the single-page app, or its backend", register, list, show, update, rotate, disable, enable, remove)
}

func errDeclared(id clients.ID) error {
	return fmt.Errorf("client %s is declared in the configuration file, which wins: change it there and restart the server", id)
}

func (a *app) clientRegister(cmd *cobra.Command, _ []string) error {
	return a.begin(cmd, func(ctx context.Context, o *operator) error {
		now := time.Now()
		c := clients.Client{CreatedAt: now, UpdatedAt: now, Epoch: uint64(now.UnixMicro())}
		secret, err := a.clientFlags(cmd, &c)
		if err != nil {
			return err
		}
		if id, _ := cmd.Flags().GetString("id"); id != "" {
			c.ID = clients.ID(id)
		} else {
			id, err := clients.NewID(rand.Reader)
			if err != nil {
				return err
			}
			c.ID = clients.ID(id)
		}
		warnings, err := c.Validate(o.Development)
		if err != nil {
			return usageError{err}
		}
		if err := o.store.CreateClient(ctx, c); errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("there is a client %s already: choose another --id, or use client update", c.ID)
		} else if err != nil {
			return err
		}
		for _, w := range append(warnings, advice(c)...) {
			a.warn("%s", w)
		}
		issuer := o.Issuer
		if issuer == "" {
			issuer = "https://login.example.com"
			a.warn("the issuer is not configured: put yours in place of %s", issuer)
		}
		noted := o.note(ctx, audit.Event{What: "client registered", Client: c.ID})
		return errors.Join(a.answer(admin.ShowClient(c, secret), "%s", registered(c, issuer, secret)), noted)
	})
}

func (a *app) clientUpdate(cmd *cobra.Command, args []string) error {
	return a.change(cmd, args[0], func(o *operator, c *clients.Client) (secret string, err error) {
		if secret, err = a.clientFlags(cmd, c); err != nil {
			return "", err
		}
		warnings, err := c.Validate(o.Development)
		if err != nil {
			return "", usageError{err}
		}
		for _, w := range append(warnings, advice(*c)...) {
			a.warn("%s", w)
		}
		return secret, nil
	})
}

func (a *app) clientRotateSecret(cmd *cobra.Command, args []string) error {
	return a.change(cmd, args[0], func(_ *operator, c *clients.Client) (string, error) {
		switch c.Method() {
		case clients.SecretBasic:
			return c.NewSecret(rand.Reader)
		case clients.PrivateKeyJWT:
			return "", fmt.Errorf("client %[1]s has no secret, it signs: put its new public key beside the old one by solegate client update %[1]s --jwks FILE, and take the old one away when it is no longer used", c.ID)
		}
		return "", fmt.Errorf("client %[1]s has no secret, it is public; to make a backend of it: solegate client update %[1]s --auth-method client_secret_basic", c.ID)
	})
}

// change changes a client, stores and shows it, and the secret that change
// returns, this one time.
func (a *app) change(cmd *cobra.Command, id string, change func(*operator, *clients.Client) (secret string, err error)) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		c, err := o.findClient(ctx, id)
		if err != nil {
			return err
		}
		if c.Declared {
			return errDeclared(c.ID)
		}
		before := c
		secret, err := change(o, &c)
		if err != nil {
			return err
		}
		c, err = o.revoker.ChangeClient(ctx, before, c)
		switch {
		case errors.Is(err, storage.ErrConflict):
			return fmt.Errorf("client %s was changed by somebody else at this moment: look at it and try again", c.ID)
		case err != nil && !errors.Is(err, revocation.ErrNotRecorded): // else it is done
			return err
		}
		e := audit.Event{What: "client changed", Client: c.ID}
		if secret != "" {
			e.Reason = "it has a new secret"
		}
		return errors.Join(a.showClient(c, secret), err, o.note(ctx, e))
	})
}

func (a *app) clientList(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		all, err := collect(func(p storage.Page) ([]clients.Client, error) { return o.store.ListClients(ctx, p) }, func(c clients.Client) string { return string(c.ID) })
		if err != nil {
			return err
		}
		shown := make([]admin.Client, len(all))
		for i, c := range all {
			shown[i] = admin.ShowClient(c, "")
		}
		return a.table(shown, "CLIENT ID\tNAME\tSTATE\tKIND\tREDIRECT URIS", func(row func(string, ...any)) {
			for _, c := range all {
				row("%s\t%s\t%s\t%s\t%s", c.ID, c.Name, clientState(c), kind(c), join(c.RedirectURIs))
			}
		})
	})
}

// showClient shows a client, and its secret if there is one to be shown.
func (a *app) showClient(c clients.Client, secret string) error {
	err := a.table(admin.ShowClient(c, secret), "FIELD\tVALUE", func(row func(string, ...any)) {
		row("client id\t%s", c.ID)
		row("name\t%s", c.Name)
		row("state\t%s", clientState(c))
		row("kind\t%s", kind(c))
		if keys, err := c.Keys(); err == nil {
			for _, k := range keys {
				row("public key\t%s", strings.TrimSpace(k.Algorithms[0]+" "+k.ID))
			}
		}
		row("grant types\t%s", grantTypes(c))
		if has := requirements(c); has != "" {
			row("has to\t%s", has)
		}
		if c.MayOmitPKCE() {
			row("PKCE\toptional, with a nonce")
		}
		if c.BackchannelLogoutURI != "" {
			row("backchannel logout uri\t%s", c.BackchannelLogoutURI)
		}
		row("redirect uris\t%s", join(c.RedirectURIs))
		row("post logout redirect uris\t%s", join(c.PostLogoutRedirectURIs))
		row("origins\t%s", join(c.Origins))
		row("audiences\t%s", join(c.Audiences))
		row("scopes\t%s", join(c.Scopes))
		row("ID token algorithm\t%s", c.IDTokenAlg)
		row("ID token at refresh\t%t", c.RefreshIDToken)
		row("consent\t%t", c.Consent)
		for _, life := range []struct {
			name  string
			value time.Duration
		}{{"access token life", c.AccessTokenLife}, {"refresh idle", c.RefreshIdle}, {"refresh life", c.RefreshLife}} {
			if life.value > 0 { // else the server's
				row("%s\t%s", life.name, life.value)
			}
		}
		row("created\t%s", when(c.CreatedAt))
		row("updated\t%s", when(c.UpdatedAt))
	})
	if secret != "" && !a.json {
		fmt.Fprintf(a.stdout, "\nThe new secret is shown this once and stored as a hash only:\n\n  %s\n", secret)
	}
	return err
}

func clientState(c clients.Client) string {
	state := "enabled"
	if c.Disabled {
		state = "disabled"
	}
	if c.Development {
		state += ", development"
	}
	if c.Declared {
		state += ", declared in the file"
	}
	return state
}

func join[S ~string](list []S) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

func (o *operator) findClient(ctx context.Context, id string) (clients.Client, error) {
	c, err := o.store.Client(ctx, clients.ID(id))
	if errors.Is(err, storage.ErrNotFound) {
		return c, fmt.Errorf("there is no client %q; see: solegate client list", id)
	}
	return c, err
}

// collect reads a whole listing, page by page.
func collect[R any](list func(storage.Page) ([]R, error), key func(R) string) ([]R, error) {
	all := []R{}
	for p := (storage.Page{Limit: 500}); ; p.After = key(all[len(all)-1]) {
		page, err := list(p)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < p.Limit {
			return all, nil
		}
	}
}
