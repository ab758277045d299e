package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/keys"
)

func (a *app) key() *cobra.Command {
	with := func(cmd *cobra.Command, do func(context.Context, *operator, *keys.Ring) error) error {
		return a.operate(cmd, func(ctx context.Context, o *operator) error {
			ring, err := o.ring(ctx, o.store, slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
			if err != nil {
				return err
			}
			return do(ctx, o, ring)
		})
	}
	list := &cobra.Command{Use: "list", Short: "List the signing keys", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return with(cmd, func(_ context.Context, _ *operator, r *keys.Ring) error { return a.showKeys(r) })
	}}
	rotate := &cobra.Command{Use: "rotate [ALG]", Short: "Publish the next key now; it signs in 15 minutes (default ES256)", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		alg := keys.ES256
		if len(args) == 1 {
			alg = keys.Algorithm(args[0])
		}
		return with(cmd, func(ctx context.Context, o *operator, r *keys.Ring) error {
			if err := r.Rotate(ctx, alg); err != nil {
				return err
			}
			return errors.Join(a.showKeys(r), o.note(ctx, audit.Event{What: "signing keys rotated", Reason: string(alg)}))
		})
	}}
	revoke := &cobra.Command{Use: "revoke KID", Short: "Withdraw a key that leaked, at once", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		reason, _ := cmd.Flags().GetString("reason")
		return with(cmd, func(ctx context.Context, o *operator, r *keys.Ring) error {
			if err := o.revoker.RevokeKey(ctx, r, args[0], reason); err != nil {
				return fmt.Errorf("key %s: %w", args[0], err)
			}
			return a.showKeys(r)
		})
	}}
	revoke.Flags().String("reason", "revoked by an operator", "why, for the log")
	reseal := &cobra.Command{Use: "reseal", Short: "Seal everything with the current master key; the previous ones are then needed no more", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return with(cmd, func(ctx context.Context, o *operator, r *keys.Ring) error {
			if err := r.Reseal(ctx); err != nil {
				return err
			}
			return errors.Join(a.answer(map[string]string{"done": "resealed"}, "Everything is sealed with the current master key.\n"), o.note(ctx, audit.Event{What: "keys sealed anew"}))
		})
	}}
	generate := &cobra.Command{Use: "generate-master", Short: "Print a new master key", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		text, err := keys.GenerateMaster(rand.Reader)
		if err != nil {
			return err
		}
		return a.answer(map[string]string{"master_key": text}, "%s\n", text)
	}}
	operatorFlags(list, rotate, revoke, reseal)
	return group("key", "Look after the signing keys", list, rotate, revoke, reseal, generate)
}

func (a *app) showKeys(r *keys.Ring) error {
	list := r.List()
	return a.table(list, "KID\tALG\tSTATE\tSIGNS FROM\tRETIRED\tREVOKED", func(row func(string, ...any)) {
		for _, k := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s", k.ID, k.Algorithm, k.State, when(k.ActiveAt), when(k.RetiredAt), when(k.RevokedAt))
		}
	})
}
