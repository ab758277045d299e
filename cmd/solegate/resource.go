package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// resourceServer is a resource server as the commands show it: no hash.
type resourceServer struct {
	ID        clients.ID `json:"id"`
	Audience  string     `json:"audience"`
	Name      string     `json:"name,omitempty"`
	Disabled  bool       `json:"disabled"`
	CreatedAt time.Time  `json:"created_at"`
	// Secret is there once, when it was made.
	Secret string `json:"secret,omitempty"`
}

func (a *app) resource() *cobra.Command {
	register := &cobra.Command{Use: "register", Short: "Give an API a credential of its own, for introspection", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return a.begin(cmd, func(ctx context.Context, o *operator) error {
			rs := clients.ResourceServer{CreatedAt: time.Now(), UpdatedAt: time.Now()}
			rs.Audience, _ = cmd.Flags().GetString("audience")
			rs.Name, _ = cmd.Flags().GetString("name")
			id, err := clients.NewID(rand.Reader)
			if err != nil {
				return err
			}
			rs.ID = clients.ID(id)
			if err := rs.Validate(); err != nil {
				return usageError{err}
			}
			secret, err := rs.NewSecret(rand.Reader)
			if err != nil {
				return err
			}
			if err := o.store.CreateResourceServer(ctx, rs); err != nil {
				return err
			}
			return a.showSecret(rs, secret)
		})
	}}
	register.Flags().String("audience", "", "identifier of the API: it may ask about tokens for it, and no others")
	register.Flags().String("name", "", "a name for listings")

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
			return a.table(shown, "ID\tAUDIENCE\tNAME\tDISABLED", func(row func(string, ...any)) {
				for _, rs := range shown {
					row("%s\t%s\t%s\t%t", rs.ID, rs.Audience, rs.Name, rs.Disabled)
				}
			})
		})
	}}
	act := func(use, short string, do func(context.Context, *operator, clients.ResourceServer) error) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				rs, err := o.store.ResourceServer(ctx, clients.ID(args[0]))
				if errors.Is(err, storage.ErrNotFound) {
					return fmt.Errorf("there is no resource server %q; see: solegate resource list", args[0])
				} else if err != nil {
					return err
				}
				rs.UpdatedAt = time.Now()
				return do(ctx, o, rs)
			})
		}}
	}
	show := act("show", "Show a resource server", func(_ context.Context, _ *operator, rs clients.ResourceServer) error { return a.showResource(rs) })
	rotate := act("rotate-secret", "Replace the secret; the old one is worth nothing at once", func(ctx context.Context, o *operator, rs clients.ResourceServer) error {
		secret, err := rs.NewSecret(rand.Reader)
		if err != nil {
			return err
		}
		if err := o.store.UpdateResourceServer(ctx, rs); err != nil {
			return err
		}
		return a.showSecret(rs, secret)
	})
	able := func(disabled bool) func(context.Context, *operator, clients.ResourceServer) error {
		return func(ctx context.Context, o *operator, rs clients.ResourceServer) error {
			rs.Disabled = disabled
			if err := o.store.UpdateResourceServer(ctx, rs); err != nil {
				return err
			}
			return a.showResource(rs)
		}
	}
	disable := act("disable", "Refuse a resource server's credential", able(true))
	enable := act("enable", "Accept it again", able(false))
	remove := act("remove", "Remove a resource server", func(ctx context.Context, o *operator, rs clients.ResourceServer) error {
		if err := o.store.RemoveResourceServer(ctx, rs.ID); err != nil {
			return err
		}
		return a.answer(map[string]string{"id": string(rs.ID), "done": "removed"}, "Resource server %s is removed.\n", rs.ID)
	})
	operatorFlags(register, list, show, rotate, disable, enable, remove)
	return group("resource", "Give APIs a credential for introspection", register, list, show, rotate, disable, enable, remove)
}

func showable(rs clients.ResourceServer) resourceServer {
	return resourceServer{ID: rs.ID, Audience: rs.Audience, Name: rs.Name, Disabled: rs.Disabled, CreatedAt: rs.CreatedAt}
}

func (a *app) showResource(rs clients.ResourceServer) error {
	return a.answer(showable(rs), "id        %s\naudience  %s\nname      %s\ndisabled  %t\ncreated   %s\n", rs.ID, rs.Audience, rs.Name, rs.Disabled, when(rs.CreatedAt))
}

// showSecret shows the secret, this one time.
func (a *app) showSecret(rs clients.ResourceServer, secret string) error {
	shown := showable(rs)
	shown.Secret = secret
	return a.answer(shown, "The API authenticates at the introspection endpoint by HTTP Basic with\n\n  user name  %s\n  password   %s\n\nThe password is shown this once and stored as a hash only.\n", rs.ID, secret)
}
