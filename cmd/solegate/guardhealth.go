package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/guard"
)

// health answers /livez; /readyz with 503 and why while no token can be checked,
// also for a stale feed if guard.when_stale is refuse, and when it is about to
// stop; and /metrics.
func health(g *guard.Guard, running context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch err := g.Ready(); {
		case err != nil:
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		case running.Err() != nil:
			http.Error(w, "not ready: stopping", http.StatusServiceUnavailable)
		default:
			io.WriteString(w, "ok\n")
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		io.WriteString(w, metrics(g))
	})
	return mux
}

// metrics are the guard's counters in the text format of Prometheus. Those of
// what is not configured stay 0.
func metrics(g *guard.Guard) string {
	var b strings.Builder
	add := func(kind, name string, value any, help string) {
		fmt.Fprintf(&b, "# HELP solegate_guard_%[1]s %[2]s\n# TYPE solegate_guard_%[1]s %[3]s\nsolegate_guard_%[1]s %[4]v\n", name, help, kind, value)
	}
	gauge := func(name string, value any, help string) { add("gauge", name, value, help) }
	counter := func(name string, value uint64, help string) { add("counter", name, value, help) }

	v := g.Verifier()
	gauge("ready", truth(g.Ready() == nil), "1 while requests can be checked.")
	f := v.FeedState()
	gauge("feed_following", truth(f.Following), "1 while what was revoked is known, as of guard.stale_after ago at most.")
	gauge("feed_as_of_seconds", unix(f.AsOf), "The issuer's time as of which all is known, in Unix seconds.")
	gauge("feed_events", f.Events, "Revocations that are held.")
	counter("feed_unknown_events_total", f.Unknown, "Events that this version can't apply.")
	counter("feed_reconnects_total", f.Reconnects, "How often the feed was asked for again.")
	counter("feed_refused_total", f.Refused, "Requests refused for what the feed said.")
	counter("feed_unchecked_total", f.Unchecked, "Requests refused because the feed was stale.")
	counter("feed_passed_stale_total", f.Passed, "Requests that passed while the feed was stale.")
	counter("feed_introspected_total", f.Introspected, "Requests that the issuer was asked about.")
	gauge("open", f.Watched, "WebSockets and event streams that are open.")
	counter("closed_total", f.Ended, "Those that were closed because their token was revoked, or the feed stale.")
	l := v.LimitStats()
	counter("limit_passed_total", l.Passed, "Requests that passed a limit.")
	counter("limit_refused_total", l.Limited, "Requests answered 429.")
	counter("limit_crowded_total", l.Crowded, "Requests of accounts for which there was no place, see guard.limits_accounts.")
	gauge("limit_accounts", l.Buckets, "Accounts that are held.")
	gauge("limit_alone", truth(l.Alone), "1 while guard.limits_store fails or is slow, and this guard counts for itself.")
	r := v.ReportStats()
	counter("reports_sent_total", r.Sent, "Reports that the issuer has.")
	gauge("reports_waiting", r.Waiting, "Reports to be sent.")
	counter("reports_dropped_total", r.Dropped, "Reports never sent, because too many were waiting.")
	counter("reports_failed_total", r.Failed, "Reports given up.")
	return b.String()
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
