package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// sessions are those of u that can still do something: log in to another app,
// or refresh.
func (o *operator) sessions(ctx context.Context, u storage.User) ([]admin.Session, error) {
	grants, err := collect(func(p storage.Page) ([]storage.Grant, error) { return o.store.ListGrants(ctx, u.ID, p) }, func(g storage.Grant) string { return string(g.ID) })
	if err != nil {
		return nil, err
	}
	all, err := collect(func(p storage.Page) ([]storage.Session, error) { return o.store.ListSessions(ctx, u.ID, p) }, func(s storage.Session) string { return string(s.ID) })
	if err != nil {
		return nil, err
	}
	now, list := time.Now(), []admin.Session{}
	having := admin.ClientsOf(grants, now)
	for _, s := range all {
		if shown, good := admin.ShowSession(s, u, having[s.ID], now); good {
			list = append(list, shown)
		}
	}
	return list, nil
}

func (a *app) userSessions(ctx context.Context, o *operator, u storage.User) error {
	list, err := o.sessions(ctx, u)
	if err != nil {
		return err
	}
	return a.table(list, "SESSION\tSINCE\tSEEN\tUNTIL\tCLIENTS\tADDRESS\tBROWSER", func(row func(string, ...any)) {
		for _, s := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s\t%s", s.ID, when(s.AuthTime), when(s.LastSeen), when(s.Expires), orNone(s.Clients), plain(s.Address), plain(s.Browser))
		}
	})
}

func orNone(list []clients.ID) string {
	if len(list) == 0 {
		return "-"
	}
	var b strings.Builder
	for i, id := range list {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(string(id))
	}
	return b.String()
}

// plain is what somebody sent without what a terminal takes for a command, or a
// table for its next column.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}

func (a *app) userEndSession() *cobra.Command {
	return &cobra.Command{Use: "end-session NAME SESSION", Short: "End one session and its grants", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		return a.operate(cmd, func(ctx context.Context, o *operator) error {
			u, err := o.findUser(ctx, args[0])
			if err != nil {
				return err
			}
			// A name beside the session keeps a slip of the hand from ending
			// somebody else's.
			id := storage.SessionID(args[1])
			err = storage.ErrNotFound
			if id.User() == u.ID {
				err = o.revoker.EndSession(ctx, id, "ended by an operator")
			}
			if errors.Is(err, storage.ErrNotFound) {
				return fmt.Errorf("there is no session %q of user %s; see: solegate user sessions %s", id, u.Name, u.Name)
			} else if err != nil {
				return err
			}
			return a.answer(map[string]string{"user": u.Name, "id": string(u.ID), "session": string(id), "done": "ended"}, "Session %s of user %s is ended.\n", id, u.Name)
		})
	}}
}
