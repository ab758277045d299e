package verify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys/verify/reports"
)

// issuer stands for the server's endpoint, as package reports promises it, and
// for the way there: within one process, so that time can be a bubble's.
type issuer struct {
	mu      sync.Mutex
	tries   []try
	batches map[string]bool
	got     []reports.Report
	// broken, if not nil, says what happens to a try: an error on the way
	// there, or a status other than zero instead of the right one.
	broken func(n int) (status int, err error)
	lost   func(n int) bool // the answer gets lost
	retry  string           // Retry-After
	hang   bool
}

type try struct {
	at        time.Time
	id, body  string
	assertion string
	header    http.Header
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	hang := i.hang
	i.mu.Unlock()
	if hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	rec := httptest.NewRecorder()
	b, assertion, err := reports.Parse(raw)
	if err != nil || r.URL.String() != "https://login.example.com/reports" || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" {
		rec.WriteHeader(http.StatusBadRequest)
		return rec.Result(), nil
	}
	n := len(i.tries)
	i.tries = append(i.tries, try{time.Now(), b.ID, fmt.Sprint(b.Reports), assertion, r.Header})
	if i.broken != nil {
		status, err := i.broken(n)
		if err != nil {
			return nil, err
		}
		if status != 0 {
			rec.Header().Set("Retry-After", i.retry)
			rec.Header().Set("Location", "https://evil.example/")
			rec.WriteHeader(status)
			rec.WriteString("hush-hush")
			return rec.Result(), nil
		}
	}
	if !i.batches[b.ID] {
		i.batches[b.ID] = true
		i.got = append(i.got, b.Reports...)
	}
	if i.lost != nil && i.lost(n) {
		return nil, io.ErrUnexpectedEOF
	}
	rec.WriteHeader(http.StatusNoContent)
	return rec.Result(), nil
}

// set changes what happens to tries.
func (i *issuer) set(broken func(n int) (int, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broken, i.hang, i.tries = broken, false, nil
}

// count is how many reports the issuer has of all accounts together.
func (i *issuer) count() (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.got {
		n += r.Count
	}
	return n
}

// pass lets time pass in a bubble, and all that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// desk is a reporter and its issuer in a bubble.
type desk struct {
	*issuer
	*reporter
	log journal
	end context.CancelFunc
}

// reporting runs a test in a bubble with a reporter, and sees that no secret
// is in its log.
func reporting(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{issuer: &issuer{batches: map[string]bool{}}}
		c := &Config{
			Issuer: "https://login.example.com", Client: &http.Client{Transport: d.issuer}, Now: time.Now,
			Log: slog.New(slog.NewTextHandler(&d.log, nil)), Reports: &Reports{}, Credential: &Credential{ID: "orders-api", Secret: "hush-hush"},
		}
		ctx, end := context.WithCancel(t.Context())
		d.end = end
		d.reporter = newReporter(ctx, c)
		go d.run()
		test(t, d)
		end()
		d.reporter.close(t.Context())
		if strings.Contains(d.log.String(), "hush") || strings.Contains(d.log.String(), "Basic") {
			t.Errorf("a secret is in the log: %s", &d.log)
		}
	})
}

func (d *desk) report(n int, subject string) {
	r := httptest.NewRequest("GET", "/", nil)
	for range n {
		d.add(&Token{Subject: subject, ClientID: "spa", SessionID: "s"}, r, reports.Limit, "orders")
	}
}

func (d *desk) lines(t *testing.T, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(d.log.String()), "\n")
	if len(words) == 0 && d.log.String() == "" {
		return
	}
	ok := len(lines) == len(words)
	for i := range min(len(lines), len(words)) {
		ok = ok && strings.Contains(lines[i], words[i])
	}
	if !ok {
		t.Errorf("the log says\n%swith %q expected", &d.log, words)
	}
}

func (d *desk) expect(t *testing.T, want ReportStats) {
	t.Helper()
	d.reporter.mu.Lock()
	defer d.reporter.mu.Unlock()
	if d.stats != want {
		t.Errorf("%+v, %+v expected", d.stats, want)
	}
}
