package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// resourceServer is a resource server as the commands show it: no hash.
type resourceServer struct {
	ID         clients.ID         `json:"id"`
	Audience   string             `json:"audience"`
	Name       string             `json:"name,omitempty"`
	AuthMethod clients.AuthMethod `json:"auth_method"`
	JWKS       json.RawMessage    `json:"jwks,omitempty"`
	Disabled   bool               `json:"disabled"`
	CreatedAt  time.Time          `json:"created_at"`
	// Secret is there once, when it was made.
	Secret string `json:"secret,omitempty"`
}

func (a *app) resource() *cobra.Command {
	register := &cobra.Command{Use: "register", Short: "Give an API a credential of its own, for the feed, introspection and reports", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return a.begin(cmd, func(ctx context.Context, o *operator) error {
			rs := clients.ResourceServer{CreatedAt: time.Now(), UpdatedAt: time.Now()}
			id, err := clients.NewID(rand.Reader)
			if err != nil {
				return err
			}
			rs.ID = clients.ID(id)
			secret, err := a.resourceFlags(cmd, &rs)
			if err != nil {
				return err
			}
			if err := o.store.CreateResourceServer(ctx, rs); err != nil {
				return err
			}
			return errors.Join(a.showCredential(rs, secret), o.note(ctx, audit.Event{What: "resource server registered", ResourceServer: rs.ID}))
		})
	}}

	list := &cobra.Command{Use: "list", Short: "List the resource servers", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return a.operate(cmd, func(ctx context.Context, o *operator) error {
			all, err := collect(func(p storage.Page) ([]clients.ResourceServer, error) { return o.store.ListResourceServers(ctx, p) }, func(rs clients.ResourceServer) string { return string(rs.ID) })
			if err != nil {
				return err
			}
			shown := make([]resourceServer, len(all))
			for i, rs := range all {
				shown[i] = showable(rs)
			}
			return a.table(shown, "ID\tAUDIENCE\tNAME\tAUTHENTICATION\tDISABLED", func(row func(string, ...any)) {
				for _, rs := range shown {
					row("%s\t%s\t%s\t%s\t%t", rs.ID, rs.Audience, rs.Name, rs.AuthMethod, rs.Disabled)
				}
			})
		})
	}}
	act := func(use, short string, do func(*cobra.Command, context.Context, *operator, clients.ResourceServer) error) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				rs, err := o.store.ResourceServer(ctx, clients.ID(args[0]))
				if errors.Is(err, storage.ErrNotFound) {
					return fmt.Errorf("there is no resource server %q; see: solegate resource list", args[0])
				} else if err != nil {
					return err
				}
				rs.UpdatedAt = time.Now()
				return do(cmd, ctx, o, rs)
			})
		}}
	}
	show := act("show", "Show a resource server", func(_ *cobra.Command, _ context.Context, _ *operator, rs clients.ResourceServer) error {
		return a.showResource(rs)
	})
	update := act("update", "Change a resource server; what is not given stays", func(cmd *cobra.Command, ctx context.Context, o *operator, rs clients.ResourceServer) error {
		secret, err := a.resourceFlags(cmd, &rs)
		if err != nil {
			return err
		}
		if err := o.updateResource(ctx, rs); err != nil {
			return err
		}
		noted := o.note(ctx, audit.Event{What: "resource server changed", ResourceServer: rs.ID})
		if secret != "" {
			return errors.Join(a.showCredential(rs, secret), noted)
		}
		return errors.Join(a.showResource(rs), noted)
	})
	for _, cmd := range []*cobra.Command{register, update} {
		cmd.Flags().String("audience", "", "identifier of the API: it may ask about tokens for it, and no others")
		cmd.Flags().String("name", "", "a name for listings")
		cmd.Flags().String("auth-method", "", "how the API proves who it is: client_secret_basic (default; a secret is made and shown once) or private_key_jwt (it signs, and no secret is ever sent)")
		jwksFlag(cmd, "API")
	}
	rotate := act("rotate-secret", "Replace the secret; the old one is worth nothing at once", func(cmd *cobra.Command, ctx context.Context, o *operator, rs clients.ResourceServer) error {
		if rs.Method() != clients.SecretBasic {
			return fmt.Errorf("resource server %[1]s has no secret, it signs: put its new public key beside the old one by solegate resource update %[1]s --jwks FILE, and take the old one away when it is no longer used", rs.ID)
		}
		secret, err := rs.NewSecret(rand.Reader)
		if err != nil {
			return err
		}
		if err := o.updateResource(ctx, rs); err != nil {
			return err
		}
		return errors.Join(a.showCredential(rs, secret), o.note(ctx, audit.Event{What: "resource server changed", ResourceServer: rs.ID, Reason: "it has a new secret"}))
	})
	able := func(disabled bool, what string) func(*cobra.Command, context.Context, *operator, clients.ResourceServer) error {
		return func(cmd *cobra.Command, ctx context.Context, o *operator, rs clients.ResourceServer) error {
			rs.Disabled = disabled
			if err := o.updateResource(ctx, rs); err != nil {
				return err
			}
			return errors.Join(a.showResource(rs), o.note(ctx, audit.Event{What: what, ResourceServer: rs.ID}))
		}
	}
	disable := act("disable", "Refuse a resource server's credential", able(true, "resource server disabled"))
	enable := act("enable", "Accept it again", able(false, "resource server enabled"))
	remove := act("remove", "Remove a resource server", func(cmd *cobra.Command, ctx context.Context, o *operator, rs clients.ResourceServer) error {
		if err := o.store.RemoveResourceServer(ctx, rs.ID); err != nil {
			return err
		}
		noted := o.note(ctx, audit.Event{What: "resource server removed", ResourceServer: rs.ID})
		return errors.Join(a.answer(map[string]string{"id": string(rs.ID), "done": "removed"}, "Resource server %s is removed.\n", rs.ID), noted)
	})
	operatorFlags(register, list, show, update, rotate, disable, enable, remove)
	return group("resource", "Give APIs a credential for the feed, introspection and reports", register, list, show, update, rotate, disable, enable, remove)
}

// updateResource stores rs in the place of what was read before.
func (o *operator) updateResource(ctx context.Context, rs clients.ResourceServer) error {
	err := o.store.UpdateResourceServer(ctx, rs)
	if errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("resource server %s was changed by somebody else at this moment: look at it and try again", rs.ID)
	}
	return err
}

// resourceFlags puts the flags that were given into rs and checks what came of
// it. The secret is a new one, if rs needs one and has none.
func (a *app) resourceFlags(cmd *cobra.Command, rs *clients.ResourceServer) (secret string, err error) {
	for name, p := range map[string]*string{"audience": &rs.Audience, "name": &rs.Name} {
		if cmd.Flags().Changed(name) {
			*p, _ = cmd.Flags().GetString(name)
		}
	}
	secret, err = a.credentialFlags(cmd, credential{&rs.AuthMethod, &rs.JWKS, &rs.SecretHash, rs.Method, rs.NewSecret})
	if err != nil {
		return "", err
	}
	if err := rs.Validate(); err != nil {
		return "", usageError{err}
	}
	return secret, nil
}

func showable(rs clients.ResourceServer) resourceServer {
	return resourceServer{ID: rs.ID, Audience: rs.Audience, Name: rs.Name, AuthMethod: rs.Method(), JWKS: rs.JWKS, Disabled: rs.Disabled, CreatedAt: rs.CreatedAt}
}

func (a *app) showResource(rs clients.ResourceServer) error {
	return a.answer(showable(rs), "id              %s\naudience        %s\nname            %s\nauthentication  %s\ndisabled        %t\ncreated         %s\n",
		rs.ID, rs.Audience, rs.Name, rs.Method(), rs.Disabled, when(rs.CreatedAt))
}

// showCredential shows what the API authenticates with, and the secret, if
// there is one, this one time.
func (a *app) showCredential(rs clients.ResourceServer, secret string) error {
	shown := showable(rs)
	shown.Secret = secret
	if secret == "" {
		return a.answer(shown, "The API authenticates at the introspection endpoint by %s: it signs its\nassertions with the private key to one of the registered public ones, and iss and\nsub are\n\n  %s\n", rs.Method(), rs.ID)
	}
	return a.answer(shown, "The API authenticates at the introspection endpoint by HTTP Basic with\n\n  user name  %s\n  password   %s\n\nThe password is shown this once and stored as a hash only.\n", rs.ID, secret)
}
