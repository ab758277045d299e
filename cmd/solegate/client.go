package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func (a *app) client() *cobra.Command {
	register := &cobra.Command{Use: "register", Short: "Register the single-page app", Args: cobra.NoArgs, RunE: a.clientRegister}
	update := &cobra.Command{Use: "update ID", Short: "Change a client; what is not given stays", Args: cobra.ExactArgs(1), RunE: a.clientUpdate}
	for _, cmd := range []*cobra.Command{register, update} {
		f := cmd.Flags()
		f.StringArray("redirect-uri", nil, "where the app is sent back to after the login; may be given again")
		f.StringArray("post-logout-redirect-uri", nil, "where the app is sent back to after the logout; may be given again")
		f.StringArray("origin", nil, "where the app is served; may be given again")
		f.StringArray("audience", nil, "identifier of the API; may be given again, the first is the default")
		f.StringArray("scope", nil, "what the app may ask for; may be given again (default openid, profile, email, offline_access)")
		f.String("name", "", "the name that people see when they sign in")
		f.String("id-token-alg", "", "how ID tokens are signed: ES256 (default), RS256, PS256 or EdDSA")
		f.Bool("refresh-id-token", false, "also give an ID token at a refresh that asks for openid")
		f.Bool("consent", false, "ask people before the app gets access")
		f.Duration("access-token-life", 0, "a shorter life of access tokens than the server's")
		f.Duration("refresh-idle", 0, "a shorter idle life of grants than the server's")
		f.Duration("refresh-life", 0, "a shorter life of grants than the server's")
	}
	register.Flags().String("id", "", "the client id (default: a random one)")
	settingFlags(register, "issuer")

	list := &cobra.Command{Use: "list", Short: "List the clients", Args: cobra.NoArgs, RunE: a.clientList}
	show := &cobra.Command{Use: "show ID", Short: "Show a client", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return a.operate(cmd, func(ctx context.Context, o *operator) error {
			c, err := o.findClient(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showClient(c)
		})
	}}
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
	operatorFlags(register, update, list, show, disable, enable, remove)
	return group("client", "Register and change the single-page app", register, list, show, update, disable, enable, remove)
}

func errDeclared(id clients.ID) error {
	return fmt.Errorf("client %s is declared in the configuration file, which wins: change it there and restart the server", id)
}

// clientFlags puts the flags that were given into c.
func clientFlags(cmd *cobra.Command, c *clients.Client) {
	f := cmd.Flags()
	lists := map[string]func([]string){
		"redirect-uri":             func(v []string) { c.RedirectURIs = as[clients.RedirectURI](v) },
		"post-logout-redirect-uri": func(v []string) { c.PostLogoutRedirectURIs = as[clients.RedirectURI](v) },
		"origin":                   func(v []string) { c.Origins = as[clients.Origin](v) },
		"audience":                 func(v []string) { c.Audiences = v },
		"scope":                    func(v []string) { c.Scopes = v },
	}
	for name, set := range lists {
		if f.Changed(name) {
			v, _ := f.GetStringArray(name)
			set(v)
		}
	}
	for name, p := range map[string]*string{"name": &c.Name, "id-token-alg": &c.IDTokenAlg} {
		if f.Changed(name) {
			*p, _ = f.GetString(name)
		}
	}
	for name, p := range map[string]*bool{"consent": &c.Consent, "refresh-id-token": &c.RefreshIDToken} {
		if f.Changed(name) {
			*p, _ = f.GetBool(name)
		}
	}
	for name, p := range map[string]*time.Duration{"access-token-life": &c.AccessTokenLife, "refresh-idle": &c.RefreshIdle, "refresh-life": &c.RefreshLife} {
		if f.Changed(name) {
			*p, _ = f.GetDuration(name)
		}
	}
}

func (a *app) clientRegister(cmd *cobra.Command, _ []string) error {
	return a.begin(cmd, func(ctx context.Context, o *operator) error {
		now := time.Now()
		c := clients.Client{CreatedAt: now, UpdatedAt: now, Epoch: uint64(now.UnixMicro())}
		clientFlags(cmd, &c)
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
		for _, w := range warnings {
			a.warn("%s", w)
		}
		issuer := o.Issuer
		if issuer == "" {
			issuer = "https://login.example.com"
			a.warn("the issuer is not configured: put yours in place of %s", issuer)
		}
		if a.json {
			return a.showClient(c)
		}
		var post string // a line only if it is registered: any other is refused
		if len(c.PostLogoutRedirectURIs) > 0 {
			post = fmt.Sprintf("\n    post_logout_redirect_uri: %q,", c.PostLogoutRedirectURIs[0])
		}
		return a.answer(nil, registered, c.ID, issuer, c.ID, c.RedirectURIs[0], post, strings.Join(c.Scopes, " "), issuer, c.Audiences[0], issuer, c.Audiences[0], issuer)
	})
}

// registered is what one needs after a registration.
const registered = `Registered. The client id is

  %s

In the app (oidc-client-ts):

  new UserManager({
    authority: "%s",
    client_id: "%s",
    redirect_uri: "%s",%s
    scope: "%s",
  })

In the API (Go; see keys/verify for other languages):

  v, err := verify.New(ctx, verify.Config{
    Issuer:   "%s",
    Audience: "%s",
  })
  mux.Handle("GET /orders", v.Require("orders:read")(orders))

In any other API: check the JWT's signature against the key set, and that typ is
at+jwt, iss is %s, aud is %s and exp is to come:

  %s/jwks
`

func (a *app) clientUpdate(cmd *cobra.Command, args []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		c, err := o.findClient(ctx, args[0])
		if err != nil {
			return err
		}
		if c.Declared {
			return errDeclared(c.ID)
		}
		clientFlags(cmd, &c)
		c.UpdatedAt = time.Now()
		warnings, err := c.Validate(o.Development)
		if err != nil {
			return usageError{err}
		}
		if err := o.store.UpdateClient(ctx, c); errors.Is(err, storage.ErrConflict) {
			return fmt.Errorf("client %s was changed by somebody else at this moment: look at it and try again", c.ID)
		} else if err != nil {
			return err
		}
		for _, w := range warnings {
			a.warn("%s", w)
		}
		return a.showClient(c)
	})
}

func (a *app) clientList(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		all, err := collect(func(p storage.Page) ([]clients.Client, error) { return o.store.ListClients(ctx, p) }, func(c clients.Client) string { return string(c.ID) })
		if err != nil {
			return err
		}
		return a.table(all, "CLIENT ID\tNAME\tSTATE\tREDIRECT URIS", func(row func(string, ...any)) {
			for _, c := range all {
				row("%s\t%s\t%s\t%s", c.ID, c.Name, clientState(c), join(c.RedirectURIs))
			}
		})
	})
}

func (a *app) showClient(c clients.Client) error {
	return a.table(c, "FIELD\tVALUE", func(row func(string, ...any)) {
		row("client id\t%s", c.ID)
		row("name\t%s", c.Name)
		row("state\t%s", clientState(c))
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
