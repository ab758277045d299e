package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func (a *app) user() *cobra.Command {
	add := &cobra.Command{Use: "add NAME", Short: "Add an account; the password is asked for, or read from standard input", Args: cobra.ExactArgs(1), RunE: a.userAdd}
	add.Flags().String("email", "", "email address")
	add.Flags().Bool("email-verified", false, "the address is known to be the person's")
	add.Flags().String("display-name", "", "the name that applications show")
	list := &cobra.Command{Use: "list", Short: "List the accounts", Args: cobra.NoArgs, RunE: a.userList}

	act := func(use, short string, do func(*cobra.Command, context.Context, *operator, storage.User) error) *cobra.Command {
		return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				u, err := o.findUser(ctx, args[0])
				if err != nil {
					return err
				}
				return do(cmd, ctx, o, u)
			})
		}}
	}
	done := func(u storage.User, err error, done string) error {
		if err != nil {
			return err
		}
		return a.answer(map[string]string{"user": u.Name, "id": string(u.ID), "done": done}, "User %s: %s.\n", u.Name, done)
	}
	show := act("show", "Show an account and its sessions", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		return a.userShow(ctx, o, u)
	})
	setPassword := act("set-password", "Set a new password and end all sessions", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		encoded, err := a.newPassword(ctx, o, u.Name, u.Email)
		if err != nil {
			return err
		}
		return done(u, o.revoker.SetPassword(ctx, u.ID, encoded), "the password is set and all sessions are ended")
	})
	block := act("block", "Refuse logins and end all sessions", func(cmd *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		reason, _ := cmd.Flags().GetString("reason")
		length, _ := cmd.Flags().GetDuration("for")
		var until time.Time
		if length < 0 {
			return usagef("--for %s: a length of time is expected", length)
		} else if length > 0 {
			until = time.Now().Add(length)
		}
		return done(u, o.revoker.BlockUser(ctx, u.ID, reason, until), "blocked, and all sessions are ended")
	})
	block.Flags().String("reason", "blocked by an operator", "why, for the audit log")
	block.Flags().Duration("for", 0, "how long, such as 24h (default: until unblock)")
	unblock := act("unblock", "Accept logins again: lift a block, a suspension and a throttle", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		return done(u, o.revoker.UnblockUser(ctx, u.ID), "no longer blocked")
	})
	revoke := act("revoke", "End all sessions and grants; the person may sign in again", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		return done(u, o.revoker.RevokeUser(ctx, u.ID, "revoked by an operator"), "all sessions and grants are ended")
	})
	remove := act("remove", "Remove an account", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		return done(u, o.revoker.RemoveUser(ctx, u.ID), "removed")
	})
	sessions := act("sessions", "List the sessions of an account, from where, and for which clients", func(_ *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		return a.userSessions(ctx, o, u)
	})
	endSession := a.userEndSession()
	appoint := act("admin", "Make an operator of somebody: who may use the operator's API", func(cmd *cobra.Command, ctx context.Context, o *operator, u storage.User) error {
		if no, _ := cmd.Flags().GetBool("remove"); no {
			return done(u, o.revoker.SetOperator(ctx, u.ID, false), "no longer an operator")
		}
		return done(u, o.revoker.SetOperator(ctx, u.ID, true), "an operator")
	})
	appoint.Flags().Bool("remove", false, "make an ordinary account of it again")
	operatorFlags(add, list, show, setPassword, block, unblock, sessions, endSession, revoke, appoint, remove)
	return group("user", "Manage accounts", add, list, show, setPassword, block, unblock, sessions, endSession, revoke, appoint, remove)
}

func (a *app) userAdd(cmd *cobra.Command, args []string) error {
	return a.begin(cmd, func(ctx context.Context, o *operator) error {
		name, err := login.NormalizeName(args[0])
		if err != nil {
			return usagef("%q: %w", args[0], err)
		}
		u := storage.User{Name: name, CreatedAt: time.Now(), UpdatedAt: time.Now()}
		u.Email, _ = cmd.Flags().GetString("email")
		u.EmailVerified, _ = cmd.Flags().GetBool("email-verified")
		u.DisplayName, _ = cmd.Flags().GetString("display-name")
		if u.Email != "" && !strings.Contains(u.Email, "@") || len(u.Email) > 254 || len(u.DisplayName) > 200 || strings.ContainsFunc(u.Email+u.DisplayName, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return usagef("the email address has no @, or it or the display name is too long or has control characters")
		}
		if _, err := o.store.UserByName(ctx, name); err == nil {
			return fmt.Errorf("there is a user %s already", name)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if u.Password, err = a.newPassword(ctx, o, name, u.Email); err != nil {
			return err
		}
		id, err := clients.NewID(rand.Reader)
		if err != nil {
			return err
		}
		u.ID = storage.UserID(id)
		if err := o.store.CreateUser(ctx, u); errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("there is a user %s already", name)
		} else if err != nil {
			return err
		}
		noted := o.note(ctx, audit.Event{What: "user added", User: u.ID})
		return errors.Join(a.answer(admin.ShowUser(u, time.Now()), "User %s is added; tokens name it as %s.\n", u.Name, u.ID), noted)
	})
}

func (a *app) userList(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		all, err := collect(func(p storage.Page) ([]storage.User, error) { return o.store.ListUsers(ctx, p) }, func(u storage.User) string { return u.Name })
		if err != nil {
			return err
		}
		shown := make([]admin.User, len(all))
		for i, u := range all {
			shown[i] = admin.ShowUser(u, time.Now())
		}
		return a.table(shown, "NAME\tID\tSTATE\tEMAIL", func(row func(string, ...any)) {
			for _, u := range shown {
				row("%s\t%s\t%s\t%s", u.Name, u.ID, u.State, u.Email)
			}
		})
	})
}

func (a *app) userShow(ctx context.Context, o *operator, u storage.User) error {
	shown := admin.ShowUser(u, time.Now())
	var err error
	if shown.Sessions, err = o.sessions(ctx, u); err != nil {
		return err
	}
	return a.table(shown, "FIELD\tVALUE", func(row func(string, ...any)) {
		row("name\t%s", shown.Name)
		row("id\t%s", shown.ID)
		row("state\t%s", shown.State)
		if b := shown.Block; b != nil && b.Rule != "" {
			row("suspension\tby rule %s: %s, since %s, until %s", b.Rule, plain(b.Reason), when(b.At), when(b.Until))
		} else if b != nil {
			row("block\t%s, since %s, until %s", plain(b.Reason), when(b.At), when(b.Until))
		}
		if t := shown.Throttle; t != nil {
			row("throttle\tby rule %s: %s, one login and one refresh in each %s, since %s, until %s", t.Rule, plain(t.Reason), t.Every, when(t.At), when(t.Until))
		}
		row("display name\t%s", shown.DisplayName)
		row("email\t%s", shown.Email)
		if shown.Admin {
			row("operator\tyes")
		}
		row("created\t%s", when(shown.CreatedAt))
		row("updated\t%s", when(shown.UpdatedAt))
		for _, s := range shown.Sessions {
			row("session\t%s since %s, seen %s, from %s, %s", s.ID, when(s.AuthTime), when(s.LastSeen), plain(s.Address), plain(s.Browser))
		}
	})
}

// newPassword asks for a password, checks it and returns its hash.
func (a *app) newPassword(ctx context.Context, o *operator, words ...string) (string, error) {
	secret, err := a.readPassword()
	if err != nil {
		return "", err
	}
	if err := password.Check(secret, words...); err != nil {
		return "", err
	}
	hasher, err := password.New(o.password(), nil)
	if err != nil {
		return "", err
	}
	return hasher.Hash(ctx, secret)
}

// readPassword asks twice at a terminal, without showing it; else it reads one
// line of standard input. A password is never an argument: others see those.
func (a *app) readPassword() (string, error) {
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return a.askPassword(f)
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, password.MaxBytes+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usagef("a password is expected on standard input")
	}
	return line, nil
}

// askPassword asks twice. The terminal stops showing what is typed before the
// prompt appears, so that a quick typist is not shown either.
func (a *app) askPassword(f *os.File) (string, error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", err
	}
	defer term.Restore(int(f.Fd()), state)
	terminal := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{f, a.stderr}, "")
	first, err := terminal.ReadPassword("New password: ")
	if err != nil {
		return "", errors.New("no password was typed; nothing was changed")
	}
	second, err := terminal.ReadPassword("Once more: ")
	if err != nil || first != second {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// findUser looks an account up by its name, or by its id.
func (o *operator) findUser(ctx context.Context, who string) (storage.User, error) {
	if name, err := login.NormalizeName(who); err == nil {
		if u, err := o.store.UserByName(ctx, name); !errors.Is(err, storage.ErrNotFound) {
			return u, err
		}
	}
	u, err := o.store.User(ctx, storage.UserID(who))
	if errors.Is(err, storage.ErrNotFound) {
		return u, fmt.Errorf("there is no user %q; see: solegate user list", who)
	}
	return u, err
}
