package authz_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// TestAccountIsReported: an API that limits its accounts tells who goes beyond,
// and the audit log and the account's case say who it was, in which login and
// from where.
func TestAccountIsReported(t *testing.T) {
	s := authztest.New(t)
	rs, secret := addResourceServer(t, s)
	token := s.SignIn("alice").AccessToken
	v, err := verify.New(t.Context(), verify.Config{
		Issuer: s.URL, Audience: authztest.Audience, Development: true, Now: s.Clock.Now,
		Credential: &verify.Credential{ID: string(rs), Secret: secret}, Reports: &verify.Reports{},
	})
	if err != nil {
		t.Fatal(err)
	}
	limit := v.Limit(verify.Limit{Name: "notes", Requests: 2, Window: time.Minute})
	api := httptest.NewServer(v.Require("notes:read")(limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))))
	defer api.Close()
	statuses := map[int]int{}
	for range 5 {
		r, err := http.NewRequestWithContext(t.Context(), "GET", api.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		statuses[resp.StatusCode]++
	}
	if statuses[http.StatusOK] != 2 || statuses[http.StatusTooManyRequests] != 3 {
		t.Fatalf("got %v", statuses)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	claims := authztest.Claims(t, token)
	for _, part := range []string{"account reported", `"user":"` + claims["sub"].(string), `"session":"` + claims["sid"].(string), `"resource_server":"` + string(rs), `"address":"127.0.0.1"`, "limit: notes, 3 times from "} {
		if !strings.Contains(s.Log.String(), part) {
			t.Errorf("the log does not say %s", part)
		}
	}
	c, err := s.Store.Case(t.Context(), s.User("alice").ID)
	check(t, err)
	if e := c.Evidence; c.Reported != 3 || len(e) != 1 || e[0].Count != 3 || e[0].Reason != "notes" || string(e[0].Session) != claims["sid"] || e[0].Addresses[0].String() != "127.0.0.1" {
		t.Errorf("the case is %+v", c)
	}
	if strings.Contains(s.Log.String(), secret) || strings.Contains(s.Log.String(), token) {
		t.Error("a secret is in the log")
	}
}

func TestReportsAreTakenOnceAndOfAPIsAlone(t *testing.T) {
	s := authztest.New(t)
	rs, secret := addResourceServer(t, s)
	signer := s.Signer()
	if err := s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: "signing", Audience: authztest.Audience, AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS}); err != nil {
		t.Fatal(err)
	}
	s.SignIn("alice")
	send := func(body []byte, headers ...string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+reports.Path, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	batch := reports.Batch{ID: "a-batch-of-its-own", Reports: []reports.Report{{
		Subject: string(s.User("alice").ID), Client: "spa", Kind: reports.Judgement, Reason: "scraping", Count: 1,
		First: s.Clock.Now(), Last: s.Clock.Now(), Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	}}}
	body := func(assertion string) []byte {
		t.Helper()
		b, err := batch.Encode(assertion)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		body    []byte
		headers []string
		status  int
	}{
		"no credential":         {body(""), nil, 401},
		"a wrong secret":        {body(""), []string{"Authorization", basic(rs, secret+"x")}, 401},
		"a client's credential": {body(""), []string{"Authorization", basic("spa", secret)}, 401},
		"an access token":       {body(""), []string{"Authorization", "Bearer " + s.SignIn("alice").AccessToken}, 401},
		"no report":             {[]byte(`{"id":"a-batch-of-its-own","reports":[]}`), []string{"Authorization", basic(rs, secret)}, 400},
		"a form":                {body(""), []string{"Authorization", basic(rs, secret), "Content-Type", "application/x-www-form-urlencoded"}, 400},
		"more than is read":     {[]byte(`{"id":"` + strings.Repeat("x", reports.MaxBytes) + `"}`), []string{"Authorization", basic(rs, secret)}, 413},
	} {
		if got := send(c.body, c.headers...); got != c.status {
			t.Errorf("%s: %d, %d expected", name, got, c.status)
		}
	}
	reported := func() uint64 {
		t.Helper()
		c, err := s.Store.Case(t.Context(), s.User("alice").ID)
		if !errors.Is(err, storage.ErrNotFound) {
			check(t, err)
		}
		return c.Reported
	}
	if strings.Contains(s.Log.String(), "account reported") || reported() != 0 {
		t.Fatal("a refused report was written down")
	}
	for range 3 { // the answers were lost
		if got := send(body(""), "Authorization", basic(rs, secret)); got != http.StatusNoContent {
			t.Errorf("the batch: %d", got)
		}
	}
	if n := strings.Count(s.Log.String(), "account reported"); n != 1 || reported() != 1 {
		t.Errorf("it was written down %d times, and counted %d times", n, reported())
	}
	if !strings.Contains(s.Log.String(), `"address":"192.0.2.1","other_address":"192.0.2.2"`) {
		t.Error("an address is missing")
	}
	// Another API's batch of the same name is another one; and it may sign.
	assertion := signer.Assertion("signing", nil)
	if got := send(body(assertion)); got != http.StatusNoContent {
		t.Errorf("by private_key_jwt: %d", got)
	}
	if got := send(body(assertion)); got != http.StatusBadRequest {
		t.Errorf("the assertion again: %d", got)
	}
	if reported() != 2 {
		t.Errorf("two APIs reported, and it was counted %d times", reported())
	}
}

// TestHalfABatchComesAgain: the answer to a body that breaks off is none of those
// after which an API sends it no more.
func TestHalfABatchComesAgain(t *testing.T) {
	s := authztest.New(t)
	for body, want := range map[string]int{"{": http.StatusServiceUnavailable, strings.Repeat(" ", reports.MaxBytes+1): http.StatusRequestEntityTooLarge} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.Address, "http://"))
		check(t, err)
		defer conn.Close()
		fmt.Fprintf(conn, "POST /reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", reports.MaxBytes+9, body)
		check(t, conn.(*net.TCPConn).CloseWrite())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes of a body: %d, %d expected", len(body), resp.StatusCode, want)
		}
	}
}
