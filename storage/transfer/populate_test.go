package transfer_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/transfer"
)

const (
	people     = 60
	ends       = 1200 // more than is read at once
	thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

// populate makes some of everything, in every state that it can have.
func populate(t testing.TB, s storage.Store) {
	t.Helper()
	ctx := t.Context()
	check(t, s.CreateClient(ctx, clients.Client{ID: "spa", Name: "Örders", Epoch: 1 << 60, CreatedAt: start}))
	check(t, s.CreateClient(ctx, clients.Client{ID: "off", Disabled: true, Declared: true}))
	check(t, s.CreateResourceServer(ctx, clients.ResourceServer{ID: "api", SecretHash: [32]byte{1, 255}, Audience: "https://api.example.com"}))
	for i := range people {
		u := storage.User{ID: storage.UserID(fmt.Sprint("u", i)), Name: fmt.Sprint("person ", i), Password: "$argon2id$", Epoch: uint64(i), CreatedAt: start,
			Consents: map[clients.ID][]string{"spa": {"a", "b"}}}
		if i%3 == 0 {
			u.Block = &storage.Block{Reason: "test", At: start, Until: start.Add(time.Hour)}
		}
		check(t, s.CreateUser(ctx, u))
		for j := range i % 4 {
			x := storage.Session{ID: storage.SessionID(fmt.Sprintf("%s.s%d", u.ID, j)), User: u.ID, Epoch: u.Epoch, Secret: storage.Hash{1, byte(j)}, AuthTime: start,
				CreatedAt: start, LastSeen: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(24 * time.Hour), UserAgent: "x"}
			check(t, s.CreateSession(ctx, x))
			g := storage.Grant{ID: storage.GrantID(x.ID) + ".g", Client: "spa", User: u.ID, Session: x.ID, Epoch: 1 << 60, Scope: []string{"openid"}, Resource: []string{"r"},
				AuthTime: start, Salt: [16]byte{byte(j)}, RedirectURI: "https://a.example/cb", CodeChallenge: "c", Nonce: "n", CodeExpires: start.Add(time.Minute),
				Expires: start.Add(time.Minute), CreatedAt: start}
			if i%2 == 1 {
				g.JKT, g.Status = thumbprint, storage.Place{List: "AAAAAAAAAAAAAAAA", Index: uint32(i)}
			}
			check(t, s.CreateGrant(ctx, g))
			switch j {
			case 1:
				check(t, s.Redeem(ctx, storage.Redemption{Grant: g.ID, At: start, IdleExpires: start.Add(time.Hour), Expires: start.Add(20 * time.Hour)}))
				check(t, s.Rotate(ctx, storage.Rotation{Grant: g.ID, From: 1, At: start.Add(time.Second), IdleExpires: start.Add(2 * time.Hour)}))
			case 2:
				check(t, s.RevokeGrant(ctx, g.ID, start, "test"))
				check(t, s.EndSession(ctx, x.ID, start))
				check(t, s.AddLogouts(ctx, []storage.Logout{{Client: "spa", Session: x.ID, CreatedAt: start, DueAt: start.Add(time.Second), Expires: start.Add(time.Hour)}}))
			}
		}
	}
	for i := range people / 3 {
		c := storage.Case{User: storage.UserID(fmt.Sprint("u", i)), OpenedAt: start, UpdatedAt: start, Expires: start.Add(time.Hour), Reported: uint64(i),
			Evidence: []storage.Evidence{{ResourceServer: "api", Kind: "limit", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, First: start, Last: start, ReceivedAt: start}},
			Batches:  []storage.Hash{{1, byte(i)}}}
		if i == 0 {
			c.Expires = start // and is not moved
		}
		check(t, s.PutCase(ctx, c))
	}
	_, err := s.ClaimLogouts(ctx, start.Add(time.Second), start.Add(time.Minute), 3) // was tried once
	check(t, err)
	check(t, s.AddLogouts(ctx, []storage.Logout{{Client: "spa", Session: "u0.old", CreatedAt: start.Add(-time.Hour), DueAt: start, Expires: start}}))
	check(t, s.AppendEvents(ctx, events(0, ends), start))
	// What is not moved.
	check(t, s.AppendEvents(ctx, []storage.Event{{ID: "old", Kind: storage.EventAll, NotBefore: start.Add(-time.Hour), Until: start}}, start))
	check(t, s.AppendEvents(ctx, events(ends-1, ends), start)) // said twice
	check(t, s.Once(ctx, once, start, start.Add(time.Minute)))
	gone := storage.Session{ID: "u0.old", User: "u0", CreatedAt: start.Add(-time.Hour), Expires: start}
	check(t, s.CreateSession(ctx, gone))
	check(t, s.AppendAudit(ctx, storage.AuditHead{Seq: 40}, logged()[:256]))
	check(t, s.AppendAudit(ctx, logged()[255].Head(), logged()[256:]))
	check(t, s.PutKeyRing(ctx, storage.KeyRing{Root: []byte{1, 2}, Keys: []storage.Key{{ID: "k", Algorithm: "ES256", Sealed: []byte{3}, CreatedAt: start}}}))
}

var once = [32]byte{1}

var whole = transfer.Count{Clients: 2, ResourceServers: 1, Users: people, Sessions: people / 4 * 6, Grants: people / 4 * 6, Logouts: people / 4, Events: ends, Cases: people/3 - 1, Audit: 300, KeyRings: 1}

// logged is an audit log whose begin is gone; some of it is past its time.
func logged() (list []storage.AuditLine) {
	var before storage.AuditHead
	for i := range 340 {
		l := storage.AuditLine{Seq: before.Seq + 1, Until: start.Add(time.Duration(i-100) * time.Second), Body: fmt.Appendf(nil, `{"n":%d}`, i)}
		l.Link = l.LinkAfter(before)
		before = l.Head()
		list = append(list, l)
	}
	return list[40:]
}

// hasAudit checks that a store has the audit log as it was.
func hasAudit(t *testing.T, s storage.Store) {
	t.Helper()
	got, err := s.AuditLines(t.Context(), 0, 1000)
	check(t, err)
	if diff := cmp.Diff(logged(), got); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

// events are some of every kind.
func events(from, to int) (list []storage.Event) {
	kinds := []storage.EventKind{storage.EventUser, storage.EventSession, storage.EventGrant, storage.EventToken, storage.EventClient, storage.EventKey, storage.EventAll}
	for i := from; i < to; i++ {
		e := storage.Event{ID: fmt.Sprint("e", i), Kind: kinds[i%len(kinds)], Subject: fmt.Sprint("ö", i), Epoch: uint64(i), NotBefore: start, Until: start.Add(time.Duration(i+1) * time.Second), Reason: "test"}
		if i%2 == 0 {
			e.Audiences = []string{"https://api.example.com", "x"}
			e.Status = []storage.Place{{List: "AAAAAAAAAAAAAAAA", Index: uint32(i)}}
		}
		list = append(list, e)
	}
	return list
}

// hasEvents checks that a store has the events that were appended, in their order.
func hasEvents(t *testing.T, s storage.Store) {
	t.Helper()
	var got []storage.Event
	for after := storage.Cursor(""); ; {
		list, next, err := s.Events(t.Context(), after, 1000)
		check(t, err)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			e.Cursor = ""
			got = append(got, e)
		}
		after = next
	}
	if diff := cmp.Diff(events(0, ends), got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// owed checks that what is owed in one store is owed in another, and all the
// same.
func owed(t *testing.T, from, to storage.Store) {
	t.Helper()
	tried, n := 0, 0
	check(t, from.EachLogout(t.Context(), func(l storage.Logout) error {
		got, err := to.Logout(t.Context(), l.Client, l.Session)
		if !start.Before(l.Expires) {
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("what expired was moved: %+v, %v", got, err)
			}
			return nil
		}
		if err != nil || got != l {
			t.Errorf("owed is %+v, and was %+v: %v", got, l, err)
		}
		tried, n = tried+l.Attempts, n+1
		return nil
	}))
	if tried != 3 || int64(n) != whole.Logouts {
		t.Errorf("%d are owed, and %d were tried: %d and 3 expected", n, tried, whole.Logouts)
	}
}
