package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/keys/verify/reports"
)

func TestReportsAreAddedUp(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		began := time.Now().Truncate(time.Second)
		key := strings.Repeat("Q", 42) + "A"
		if !dpop.ValidThumbprint(key) {
			t.Fatal("no thumbprint")
		}
		alice := &Token{Subject: "alice", ClientID: "spa", SessionID: "s1", JKT: key}
		r := httptest.NewRequest("GET", "/", nil)
		for i := range 30 {
			r.RemoteAddr = fmt.Sprintf("[::ffff:192.0.2.%d]:1234", i/2)
			d.add(alice, r, reports.Limit, "orders")
		}
		r.RemoteAddr = "[fe80::1%eth0]:1234"
		d.add(alice, r, reports.Judgement, "scraping")
		r.RemoteAddr = "@" // a Unix socket
		for _, other := range []Token{{Subject: "bob", ClientID: "spa"}, {Subject: "alice", ClientID: "other"}, {Subject: "alice", ClientID: "spa", SessionID: "s2"}} {
			d.add(&other, r, reports.Limit, "orders")
			d.add(&other, nil, reports.Limit, "orders")
		}
		d.expect(t, ReportStats{Waiting: 37})
		pass(2 * time.Second)
		if len(d.tries) != 1 || len(d.got) != 5 || d.count() != 37 {
			t.Fatalf("%d tries, %d reports of %d", len(d.tries), len(d.got), d.count())
		}
		first := d.got[0]
		if first.Subject != "alice" || first.Client != "spa" || first.Session != "s1" || first.Key != key || first.Kind != reports.Limit || first.Reason != "orders" || first.Count != 30 || !first.First.Equal(began) || !first.Last.Equal(began) {
			t.Errorf("%+v", first)
		}
		if len(first.Addresses) != 8 || first.Addresses[7] != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("addresses %v", first.Addresses)
		}
		if second := d.got[1]; second.Kind != reports.Judgement || second.Reason != "scraping" || fmt.Sprint(second.Addresses) != "[fe80::1]" {
			t.Errorf("%+v", second)
		}
		if third := d.got[2]; third.Subject != "bob" || third.Session != "" || third.Count != 2 || len(third.Addresses) != 0 {
			t.Errorf("%+v", third)
		}
		d.expect(t, ReportStats{Sent: 37})
		d.lines(t)
		if id, secret, _ := (&http.Request{Header: d.tries[0].header}).BasicAuth(); id != "orders-api" || secret != "hush-hush" || d.tries[0].assertion != "" {
			t.Errorf("authenticated as %q", id)
		}
	})
}

// TestReportsSurviveAnOutage: the issuer is down for five minutes.
func TestReportsSurviveAnOutage(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		up := time.Now().Add(5 * time.Minute)
		d.broken = func(n int) (int, error) {
			if time.Now().Before(up) {
				return []int{503, 0, 401, 500, 404}[n%5], []error{nil, errors.New("connection refused"), nil, nil, nil}[n%5]
			}
			return 0, nil
		}
		for range 300 {
			d.report(2, "alice")
			d.report(1, "bob")
			pass(time.Second)
		}
		pass(time.Minute)
		if d.count() != 900 || len(d.got) > 4+2 {
			t.Errorf("%d in %d reports have arrived, 900 in a few are expected", d.count(), len(d.got))
		}
		d.expect(t, ReportStats{Sent: 900})
		d.lines(t, "can't be sent", "reach the issuer again")
		if n := len(d.tries); n < 10 || n > 40 {
			t.Errorf("tried %d times", n)
		}
		for i := 1; i < len(d.tries); i++ {
			a, b := d.tries[i-1], d.tries[i]
			if pause := b.at.Sub(a.at); a.at.Before(up) && (pause < firstRetry/2 || pause > longestRetry) {
				t.Errorf("try %d came after %s", i, pause)
			}
			if a.at.Before(up) && (a.id != b.id || a.body != b.body) {
				t.Errorf("try %d is another batch than the one before", i)
			}
		}
	})
}

// TestLostAnswersAreNotCountedTwice: the issuer knows a batch by its id.
func TestLostAnswersAreNotCountedTwice(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.lost = func(n int) bool { return n%3 != 2 }
		for range 20 {
			d.report(3, "alice")
			pass(time.Second)
		}
		pass(time.Minute)
		if d.count() != 60 || len(d.tries) != 3*len(d.batches) {
			t.Errorf("%d are counted, 60 expected, in %d tries of %d batches", d.count(), len(d.tries), len(d.batches))
		}
		d.expect(t, ReportStats{Sent: 60})
	})
}

// TestReportsAreGivenUp after ten minutes, and at once if they are refused.
func TestReportsAreGivenUp(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.broken = func(int) (int, error) { return 503, nil }
		d.report(5, "alice")
		pass(reports.Retry + 2*time.Minute)
		d.expect(t, ReportStats{Failed: 5})
		if last := d.tries[len(d.tries)-1].at.Sub(d.tries[0].at); last > reports.Retry {
			t.Errorf("sent again after %s", last)
		}
		for i, status := range []int{400, 413} {
			d.set(func(int) (int, error) { return status, nil })
			d.report(5, "bob")
			pass(time.Minute)
			d.expect(t, ReportStats{Failed: uint64(10 + 5*i)})
			if len(d.tries) != 1 {
				t.Errorf("%d tries of what is refused with %d, one expected", len(d.tries), status)
			}
		}
		d.lines(t, "can't be sent")
	})
}

// TestRetryAfterIsHeeded, and a redirect is not followed: the body is for the
// issuer.
func TestRetryAfterIsHeeded(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.retry = "45"
		d.broken = func(n int) (int, error) { return []int{429, 307, 503, 0}[n], nil }
		d.report(1, "alice")
		pass(5 * time.Minute)
		if len(d.tries) != 4 || d.count() != 1 {
			t.Fatalf("%d tries, %d arrived", len(d.tries), d.count())
		}
		for i := 1; i < 4; i++ {
			if pause := d.tries[i].at.Sub(d.tries[i-1].at); pause != 45*time.Second {
				t.Errorf("try %d came after %s", i, pause)
			}
		}
	})
}

// TestHungIssuerBlocksNobody: in a bubble time stands still while anybody
// runs, so whoever waited would be seen.
func TestHungIssuerBlocksNobody(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.hang = true
		d.report(1, "first")
		pass(2 * time.Second) // it is on its way now
		began := time.Now()
		for i := range 25_000 {
			d.report(2, fmt.Sprint("account ", i))
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("reporting took %s", waited)
		}
		d.expect(t, ReportStats{Waiting: 20_001, Dropped: 30_000})
		d.lines(t, "dropped")
		d.set(nil)
		pass(time.Minute)
		d.expect(t, ReportStats{Sent: 20_001, Dropped: 30_000})
		if d.count() != 20_001 || len(d.batches) != 101 || d.got[1].Subject != "account 15000" {
			t.Errorf("%d arrived in %d batches, the oldest is of %s", d.count(), len(d.batches), d.got[1].Subject)
		}
		d.lines(t, "dropped", "can't be sent", "reach the issuer again")
		d.issuer.mu.Lock()
		d.hang = true
		d.issuer.mu.Unlock()
		d.report(1, "first")
		pass(2 * time.Second)
		for i := range maxWaiting + 1 {
			d.report(1, fmt.Sprint("account ", i))
		}
		d.expect(t, ReportStats{Sent: 20_001, Dropped: 30_001, Waiting: maxWaiting + 1})
		d.lines(t, "dropped", "can't be sent", "reach the issuer again", "dropped")
	})
}

// TestFullBatchGoesAtOnce, without waiting for the second to end.
func TestFullBatchGoesAtOnce(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		for i := range reports.MaxReports {
			d.report(1, fmt.Sprint("account ", i))
		}
		synctest.Wait()
		d.expect(t, ReportStats{Sent: reports.MaxReports})
	})
}

// TestUnsendableReportsHoldUpNobody: a token may have what no report may.
func TestUnsendableReportsHoldUpNobody(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.report(1, "line\nbreak")
		d.report(1, strings.Repeat("a", 300))
		d.report(1, "alice")
		pass(2 * time.Second)
		d.expect(t, ReportStats{Sent: 1, Dropped: 2})
	})
}

func TestCloseSendsWhatIsWaiting(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.broken = func(n int) (int, error) { return []int{503, 503, 503, 0, 0, 0}[min(n, 5)], nil }
		for i := range 2 * reports.MaxReports {
			d.report(1, fmt.Sprint("account ", i))
		}
		pass(10 * time.Millisecond) // in the pause after the first try
		began := time.Now()
		if err := d.reporter.close(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		d.expect(t, ReportStats{Sent: 2 * reports.MaxReports})
		d.report(1, "late")
		d.expect(t, ReportStats{Sent: 2 * reports.MaxReports, Dropped: 1})
		if err := d.reporter.close(t.Context()); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

// TestCloseEnds, whatever the issuer does: with its context, or after fifteen
// seconds.
func TestCloseEnds(t *testing.T) {
	for _, patience := range []time.Duration{3 * time.Second, time.Hour} {
		reporting(t, func(t *testing.T, d *desk) {
			d.hang = true
			d.report(2, "alice")
			pass(1500 * time.Millisecond)
			d.report(5, "bob")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			err := d.reporter.close(ctx)
			if err == nil || !strings.Contains(err.Error(), "7 reports") || time.Since(began) != min(patience, reportGrace) {
				t.Errorf("%v after %s", err, time.Since(began))
			}
			synctest.Wait()
			d.expect(t, ReportStats{Dropped: 7})
		})
	}
}

// TestReportsOfTheLastRequests: New's context has ended, and the HTTP server
// still ends its requests.
func TestReportsOfTheLastRequests(t *testing.T) {
	reporting(t, func(t *testing.T, d *desk) {
		d.report(1, "alice")
		d.end()
		synctest.Wait()
		d.expect(t, ReportStats{Sent: 1})
		pass(5 * time.Second)
		d.report(1, "bob")
		pass(reportHurry)
		synctest.Wait()
		d.expect(t, ReportStats{Sent: 2})
		pass(reportGrace)
		<-d.ended
		d.report(1, "carol")
		d.expect(t, ReportStats{Sent: 2, Dropped: 1})
	})
}
