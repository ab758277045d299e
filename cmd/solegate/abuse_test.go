package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// misuse is what happens at a server with this policy when an account signs in
// and an API reports it n times.
func misuse(ctx context.Context, path string, p abuse.Policy, name string, n int) error {
	store, err := open(ctx, path, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	u, err := store.UserByName(ctx, name)
	if err != nil {
		return err
	}
	session, _ := storage.NewSessionID(u.ID, rand.Reader)
	grant, _ := storage.NewGrantID(session, rand.Reader)
	now := time.Now()
	if err := store.CreateSession(ctx, storage.Session{ID: session, User: u.ID, CreatedAt: now, IdleExpires: now.Add(time.Hour), Expires: now.Add(time.Hour)}); err != nil {
		return err
	}
	rs := clients.ResourceServer{ID: "orders-api", Audience: "https://api.example.com"}
	if err := store.CreateGrant(ctx, storage.Grant{ID: grant, Session: session, User: u.ID, Client: "spa", Resource: []string{rs.Audience}, CreatedAt: now, CodeExpires: now.Add(time.Minute), Expires: now.Add(time.Hour)}); err != nil {
		return err
	}
	log := audit.New(audit.Config{})
	judge := abuse.New(abuse.Config{Store: store, Audit: log, Policy: p, Revoker: revocation.New(revocation.Config{Store: store, Audit: log})})
	return judge.Report(ctx, rs, reports.Batch{ID: rand.Text(), Reports: []reports.Report{{
		Subject: string(u.ID), Client: "spa", Session: string(session), Kind: reports.Judgement, Reason: "scraping", Count: n, First: now, Last: now,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
	}}})
}

// misuses is misuse in a script, with the policy of solegate.yaml: misuse NAME N
func misuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: misuse NAME N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	c := &configuration{file: "solegate.yaml", origin: map[string]string{}}
	c.parse([]byte(ts.ReadFile("solegate.yaml")))
	if err := c.err(); err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Check(misuse(context.Background(), ts.MkAbs("solegate.db"), c.policy(), args[0], n))
	fmt.Fprintln(ts.Stdout())
}
