package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// revoke ends everything at once. What is less has commands of its own.
func (a *app) revoke() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke --all", Short: "End every session, every grant and every token at once; everybody may sign in again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all, _ := cmd.Flags().GetBool("all"); !all {
				return usagef("--all is expected: everything ends. For less see: solegate user revoke, client disable, key revoke")
			}
			reason, _ := cmd.Flags().GetString("reason")
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				done, err := o.revoker.RevokeAll(ctx, reason)
				if err != nil {
					return fmt.Errorf("%w; %d clients and %d users are done: do it again", err, done.Clients, done.Users)
				}
				return a.answer(done, "Everything is ended: the grants of %d clients, and the sessions of %d users.\n", done.Clients, done.Users)
			})
		},
	}
	cmd.Flags().Bool("all", false, "everything")
	cmd.Flags().String("reason", "revoked by an operator", "why, for the audit log")
	operatorFlags(cmd)
	return cmd
}
