package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/storage"
)

func (a *app) abuse() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the accounts that are reported, the newest report last", Args: cobra.NoArgs, RunE: a.abuseList}
	list.Flags().Bool("all", false, "also those whose case was dismissed")
	act := func(use, short string, do func(*cobra.Command, context.Context, *operator, storage.User, storage.Case) error) *cobra.Command {
		return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				u, c, err := o.findCase(ctx, args[0])
				if err != nil {
					return err
				}
				return do(cmd, ctx, o, u, c)
			})
		}}
	}
	show := act("show", "Show what was reported of an account, and what was decided", func(_ *cobra.Command, _ context.Context, o *operator, u storage.User, c storage.Case) error {
		return a.abuseShow(o, u, c)
	})
	dismiss := act("dismiss", "Find nothing in it: count from zero, and lift what a rule did", func(cmd *cobra.Command, ctx context.Context, o *operator, u storage.User, c storage.Case) error {
		reason, _ := cmd.Flags().GetString("reason")
		if err := o.judge().Dismiss(ctx, c.User, reason); err != nil {
			return err
		}
		const done = "dismissed: what was reported no longer counts, and what a rule did is lifted"
		return a.answer(map[string]string{"user": u.Name, "id": string(c.User), "done": done}, "User %s: %s.\n", orThe(u.Name, string(c.User)), done)
	})
	dismiss.Flags().String("reason", "dismissed by an operator", "why, for the case and the audit log")
	operatorFlags(list, show, dismiss)
	return group("abuse", "Look at accounts that APIs report", list, show, dismiss)
}

// judge decides as the server with this configuration does.
func (o *operator) judge() *abuse.Judge {
	return abuse.New(abuse.Config{Store: o.store, Revoker: o.revoker, Audit: o.revoker.Audit, Policy: o.policy()})
}

// findCase looks a case up by its account's name or id. The account may be gone.
func (o *operator) findCase(ctx context.Context, who string) (u storage.User, c storage.Case, err error) {
	u, err = o.findUser(ctx, who)
	id := u.ID
	if err != nil {
		id = storage.UserID(who)
	}
	c, missing := o.store.Case(ctx, id)
	switch {
	case missing == nil:
		return u, c, nil
	case err != nil: // there is no such account either
		return u, c, err
	case errors.Is(missing, storage.ErrNotFound):
		return u, c, fmt.Errorf("nothing is reported of %s; see: solegate abuse list --all", who)
	}
	return u, c, missing
}

func (a *app) abuseList(cmd *cobra.Command, _ []string) error {
	all, _ := cmd.Flags().GetBool("all")
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		list, err := collect(func(p storage.Page) ([]storage.Case, error) { return o.store.ListCases(ctx, p) }, func(c storage.Case) string { return string(c.User) })
		if err != nil {
			return err
		}
		shown := []admin.Case{}
		for _, c := range list {
			if !all && !abuse.Open(c) {
				continue
			}
			u, err := o.store.User(ctx, c.User)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			shown = append(shown, showableCase(o, u, c).Brief())
		}
		slices.SortFunc(shown, func(x, y admin.Case) int { return x.UpdatedAt.Compare(y.UpdatedAt) })
		return a.table(shown, "NAME\tID\tSTATE\tREPORTED\tLAST\tDECIDED", func(row func(string, ...any)) {
			for _, c := range shown {
				decided := "-"
				for _, d := range c.Decisions {
					decided = decision(d)
				}
				row("%s\t%s\t%s\t%d\t%s\t%s", orThe(c.User, "-"), c.ID, c.State, c.Reported, when(c.UpdatedAt), decided)
			}
		})
	})
}

func showableCase(o *operator, u storage.User, c storage.Case) admin.Case {
	return admin.ShowCase(c, u, o.judge().Counts(c), time.Now())
}

func (a *app) abuseShow(o *operator, u storage.User, c storage.Case) error {
	shown := showableCase(o, u, c)
	return a.table(shown, "FIELD\tVALUE", func(row func(string, ...any)) {
		row("name\t%s", orThe(shown.User, "-"))
		row("id\t%s", shown.ID)
		row("state\t%s", shown.State)
		state := "open"
		if !shown.Open {
			state = "dismissed at " + when(shown.DismissedAt)
		}
		row("case\t%s, since %s, %d reports", state, when(shown.OpenedAt), shown.Reported)
		for _, e := range shown.Evidence {
			row("reported\t%s by %s: %s %s, %d times, client %s%s", when(e.Last), e.ResourceServer, e.Kind, e.Reason, e.Count, e.Client, fromWhere(e))
		}
		for _, t := range shown.Tallies {
			row("counted\trule %s: %s has %d of %d within %s", t.Rule, t.ResourceServer, t.Count, t.Of, t.Within)
		}
		for _, d := range shown.Decisions {
			row("decided\t%s %s", when(d.At), decision(d))
		}
	})
}

// fromWhere is the rest of a piece of evidence: the login, the key, the addresses.
func fromWhere(e storage.Evidence) string {
	var b strings.Builder
	if e.Session != "" {
		fmt.Fprintf(&b, ", session %s", e.Session)
	}
	if e.JKT != "" {
		fmt.Fprintf(&b, ", key %s", e.JKT)
	}
	if len(e.Addresses) > 0 {
		fmt.Fprintf(&b, ", from %s", strings.Join(texts(e.Addresses), " "))
	}
	return b.String()
}

func texts(list []netip.Addr) []string {
	var all []string
	for _, x := range list {
		all = append(all, x.String())
	}
	return all
}

// decision is a decision in a line.
func decision(d storage.Decision) string {
	text := d.Action
	if !d.Until.IsZero() {
		text += " until " + when(d.Until)
	}
	if d.Rule != "" {
		text += " by rule " + d.Rule
	} else if d.Operator != "" {
		text += " by " + d.Operator
	}
	if d.Withheld != "" {
		text += ", not done: " + d.Withheld
	}
	if d.Because != "" {
		text += " (" + d.Because + ")"
	}
	return text
}
