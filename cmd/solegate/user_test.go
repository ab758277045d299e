package main

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// failing is what fails: a test or a script.
type failing interface {
	Fatalf(format string, args ...any)
}

// inStore does something to the account that is so named, in a file.
func inStore(t failing, path, name string, do func(context.Context, storage.Store, storage.User) error) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer s.Close()
	u, err := s.UserByName(ctx, name)
	if err == nil {
		err = do(ctx, s, u)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// userNamed is the account as it is stored.
func userNamed(t *testing.T, path, name string) (found storage.User) {
	t.Helper()
	inStore(t, path, name, func(_ context.Context, _ storage.Store, u storage.User) error { found = u; return nil })
	return found
}

// signIn gives an account a session, and a client a grant of it.
func signIn(t failing, path, name, part, client, browser string) {
	inStore(t, path, name, func(ctx context.Context, s storage.Store, u storage.User) error {
		now, id := time.Now(), storage.SessionID(u.ID)+"."+storage.SessionID(part)
		end := now.Add(time.Hour)
		err := s.CreateSession(ctx, storage.Session{ID: id, User: u.ID, Epoch: u.Epoch, AuthTime: now, CreatedAt: now, LastSeen: now, IdleExpires: end, Expires: end, Address: "192.0.2.1", UserAgent: browser})
		if err != nil {
			return err
		}
		return s.CreateGrant(ctx, storage.Grant{ID: storage.GrantID(id) + ".g", User: u.ID, Session: id, Client: clients.ID(client), CreatedAt: now, CodeExpires: end, Expires: end})
	})
}

// signedIn is signIn in a script: signedin NAME SESSION CLIENT BROWSER, where
// BROWSER may have escapes as in Go.
func signedIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: signedin NAME SESSION CLIENT BROWSER")
	}
	browser := args[3]
	if text, err := strconv.Unquote(`"` + browser + `"`); err == nil {
		browser = text
	}
	signIn(ts, ts.MkAbs("solegate.db"), args[0], args[1], args[2], browser)
}

// rule does to an account what a rule of the policy does: rule
// suspend|throttle NAME
func rule(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: rule suspend|throttle NAME")
	}
	inStore(ts, ts.MkAbs("solegate.db"), args[1], func(ctx context.Context, s storage.Store, u storage.User) error {
		r := revocation.New(revocation.Config{Store: s, Audit: audit.New(audit.Config{Log: slog.New(slog.DiscardHandler)})})
		if args[0] == "suspend" {
			return r.SuspendUser(ctx, u.ID, "flood", "600 reports", time.Now().Add(time.Hour))
		}
		return r.ThrottleUser(ctx, u.ID, storage.Throttle{Rule: "slow", Reason: "120 reports", Every: 10 * time.Minute})
	})
}
