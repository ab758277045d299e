package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func (a *app) audit() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "Search the audit log; the newest line is the last", Args: cobra.NoArgs, RunE: a.auditList}
	list.Flags().Int("limit", 100, "show so many lines at most, the newest")
	list.Flags().String("until", "", "what happened before a time, such as 2026-11-25T18:00:00Z, 2026-11-25, or 2h for two hours ago")
	follow := &cobra.Command{Use: "follow", Short: "Show the last lines of the audit log, and those that come, whoever writes them", Args: cobra.NoArgs, RunE: a.auditFollow}
	follow.Flags().Int("last", 10, "begin with so many lines that are there")
	follow.Flags().Int("limit", 0, "end after so many lines (default: go on until interrupted)")
	for _, cmd := range []*cobra.Command{list, follow} {
		cmd.Flags().String("user", "", "of a person, by name or id")
		cmd.Flags().String("client", "", "of a client, by id")
		cmd.Flags().String("grant", "", "of a grant, by id")
		cmd.Flags().String("session", "", "of a login session, by id")
		cmd.Flags().String("resource-server", "", "of an API, by id")
		cmd.Flags().String("what", "", `what happened, such as "user blocked"`)
		cmd.Flags().String("since", "", "what happened from a time on, such as 2026-11-25T18:00:00Z, 2026-11-25, or 24h for the last day")
	}
	verify := &cobra.Command{
		Use: "verify", Short: "Say whether a line of the audit log was altered or is missing", Args: cobra.NoArgs, RunE: a.auditVerify,
		Long: "Read the whole audit log and say which lines were altered or are missing.\n\n" +
			"With the master key the seals of the servers are checked, too: without it a log\nthat somebody wrote anew from its begin can't be told from the right one. That its\nend was cut off shows by --head alone, with what was noted elsewhere: each seal is\nin the server's own log as head=SEQ:LINK.",
	}
	verify.Flags().StringArray("head", nil, "SEQ:LINK of a line that must still be there, as a server's log has it; may be given more than once")
	operatorFlags(list, follow, verify)
	return group("audit", "Search, follow and verify the audit log", list, follow, verify)
}

// auditQuery reads the flags that list and follow share.
func auditQuery(ctx context.Context, cmd *cobra.Command, o *operator) (q audit.Query, err error) {
	text := func(name string) string { s, _ := cmd.Flags().GetString(name); return s }
	q = audit.Query{
		Client: clients.ID(text("client")), Grant: storage.GrantID(text("grant")), Session: storage.SessionID(text("session")),
		ResourceServer: clients.ID(text("resource-server")), What: text("what"),
	}
	if who := text("user"); who != "" {
		q.User = storage.UserID(who) // of an account that is gone, too
		if u, err := o.findUser(ctx, who); err == nil {
			q.User = u.ID
		} else if errors.Is(err, storage.ErrUnavailable) {
			return q, err
		}
	}
	q.Since, err = point("since", text("since"))
	return q, err
}

// point reads a time, a day in UTC, or how long ago it was.
func point(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--%s %q: a time such as 2026-11-25T18:00:00Z, a day such as 2026-11-25, or a length of time such as 24h is expected", flag, text)
}

func (a *app) auditList(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		q, err := auditQuery(ctx, cmd, o)
		if err != nil {
			return err
		}
		until, _ := cmd.Flags().GetString("until")
		if q.Until, err = point("until", until); err != nil {
			return err
		}
		if q.Limit, _ = cmd.Flags().GetInt("limit"); q.Limit < 1 || q.Limit > 1_000_000 {
			return usagef("--limit %d: 1 to 1000000 is expected", q.Limit)
		}
		lines, err := audit.Search(ctx, o.store, q)
		if err != nil {
			return err
		}
		names := admin.Names{Store: o.store}
		for _, l := range lines {
			if err := a.showLine(ctx, &names, l); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) auditFollow(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		q, err := auditQuery(ctx, cmd, o)
		if err != nil {
			return err
		}
		last, _ := cmd.Flags().GetInt("last")
		limit, _ := cmd.Flags().GetInt("limit")
		if last < 0 || last > 10_000 || limit < 0 {
			return usagef("--last %d --limit %d: 0 to 10000 lines, and no fewer than 0 are expected", last, limit)
		}
		head, err := o.store.AuditHead(ctx)
		if err != nil {
			return err
		}
		names := admin.Names{Store: o.store}
		shown := 0
		enough := errors.New("enough")
		show := func(l audit.Line) error {
			if err := a.showLine(ctx, &names, l); err != nil {
				return err
			}
			if shown++; shown == limit {
				return enough
			}
			return nil
		}
		if last > 0 && head.Seq > 0 {
			before := q
			before.Limit, before.Before = last, head.Seq+1
			lines, err := audit.Search(ctx, o.store, before)
			for _, l := range lines {
				if err == nil {
					err = show(l)
				}
			}
			if err != nil {
				return ignore(err, enough)
			}
		}
		for after, told := head.Seq, false; ; {
			reached, err := audit.Follow(ctx, o.store, after, q, func(l audit.Line) error { told = false; return show(l) })
			after = reached
			if ctx.Err() != nil {
				return nil // interrupted: that is how it ends
			}
			if !errors.Is(err, storage.ErrUnavailable) {
				return ignore(err, enough)
			}
			if !told {
				a.warn("the store does not answer; trying again: %v", err)
				told = true
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	})
}

// ignore returns err, or nil if it is that one.
func ignore(err, that error) error {
	if errors.Is(err, that) {
		return nil
	}
	return err
}

// showLine prints a line: with --json as an object on one line.
func (a *app) showLine(ctx context.Context, n *admin.Names, l audit.Line) error {
	shown := n.Show(ctx, l)
	if a.json {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		return e.Encode(shown)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d  %s  %s", l.Seq, when(l.At), harmless(l.What))
	add := func(key, value, name string) {
		if value == "" {
			return
		}
		fmt.Fprintf(&b, " %s=%s", key, quoted(value))
		if name != "" {
			fmt.Fprintf(&b, " (%s)", harmless(name))
		}
	}
	add("user", string(l.User), shown.UserName)
	add("client", string(l.Client), shown.ClientName)
	add("session", string(l.Session), "")
	add("grant", string(l.Grant), "")
	add("key", l.Key, "")
	add("redirect_uri", l.RedirectURI, "")
	add("origin", l.Origin, "")
	if l.Address.IsValid() {
		add("address", l.Address.String(), "")
	}
	for _, other := range l.OtherAddresses {
		add("other_address", other.String(), "")
	}
	add("resource_server", string(l.ResourceServer), "")
	add("jkt", l.JKT, "")
	add("rule", l.Rule, "")
	add("operator", l.Operator, "")
	add("request", l.Request, "")
	if l.Count > 0 {
		add("count", strconv.Itoa(l.Count), "")
	}
	if l.Late > 0 {
		add("late", l.Late.String(), "")
	}
	add("reason", l.Reason, "")
	_, err := fmt.Fprintln(a.stdout, b.String())
	return err
}

// harmless is a text that a terminal only shows.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// quoted is harmless for a value: in quotes if it has spaces or the like.
func quoted(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' || r == '"' || r == '=' }) {
		return strconv.Quote(s)
	}
	return s
}

func (a *app) auditVerify(cmd *cobra.Command, _ []string) error {
	return a.operate(cmd, func(ctx context.Context, o *operator) error {
		how := audit.Verification{Now: time.Now()}
		texts, _ := cmd.Flags().GetStringArray("head")
		for _, text := range texts {
			h, err := audit.ParseHead(text)
			if err != nil {
				return usageError{err}
			}
			how.Heads = append(how.Heads, h)
		}
		var err error
		if how.Secret, err = o.sealSecret(ctx); err != nil {
			return err
		}
		r, err := audit.Verify(ctx, o.store, how)
		if err != nil {
			return err
		}
		var b strings.Builder
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "PROBLEM  %s\n", p)
		}
		for _, p := range r.Remarks {
			fmt.Fprintf(&b, "note     %s\n", p)
		}
		switch {
		case r.Lines == 0:
			b.WriteString("The audit log is empty.\n")
		case len(r.Problems) == 0:
			fmt.Fprintf(&b, "Nothing is wrong with the audit log: %d lines, %d to %d, with %d seals.\nIts head is %s\n", r.Lines, r.First, r.Last, r.Seals, r.Head)
		}
		if err := a.answer(r, "%s", b.String()); err != nil || len(r.Problems) == 0 {
			return err
		}
		return fmt.Errorf("the audit log is not as it was written, in %d places", len(r.Problems))
	})
}

// sealSecret is what the seals are checked with; nil without a master key. It
// makes neither a master key nor keys.
func (o *operator) sealSecret(ctx context.Context) (func(string) [32]byte, error) {
	if o.MasterKey == "" && o.MasterKeyFile == "" {
		if !o.Development {
			return nil, nil
		}
		if _, err := os.Stat(o.madeMaster()); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if _, err := o.store.KeyRing(ctx); errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	ring, err := o.ring(ctx, o.store, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return ring.Secret, nil
}
