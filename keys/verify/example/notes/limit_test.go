package notes_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/example/notes"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// TestHammeringIsLimitedAndReported is how an API tests its limits.
func TestHammeringIsLimitedAndReported(t *testing.T) {
	issuer, clock := verifytest.New(t), verifytest.NewClock(time.Now())
	issuer.SetClock(clock.Now)
	v, err := verify.New(t.Context(), verify.Config{
		Issuer: issuer.URL, Audience: "https://api.example.com", Development: true, Now: clock.Now,
		Credential: &verify.Credential{ID: "notes", Secret: "secret"}, Reports: &verify.Reports{},
	})
	if err != nil {
		t.Fatal(err)
	}
	api := notes.Handler(v)
	call := func(who, method string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/api/notes", strings.NewReader(`{"text":"milk"}`))
		r.Header.Set("Authorization", "Bearer "+issuer.Token(map[string]any{"sub": who, "scope": "notes:read notes:write"}))
		rec := httptest.NewRecorder()
		api.ServeHTTP(rec, r)
		return rec
	}
	limited := 0
	for range 40 {
		if rec := call("mallory", "POST"); rec.Code == http.StatusTooManyRequests {
			limited++
			if rec.Header().Get("Retry-After") != "2" {
				t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
			}
		}
	}
	if limited != 10 {
		t.Errorf("%d of 40 are refused, 10 expected", limited)
	}
	if rec := call("mallory", "GET"); rec.Code != 200 {
		t.Errorf("reading: %d", rec.Code)
	}
	if rec := call("alice", "POST"); rec.Code != 201 {
		t.Errorf("somebody else: %d", rec.Code)
	}
	clock.Advance(2 * time.Second)
	if rec := call("mallory", "POST"); rec.Code != 201 {
		t.Errorf("after two seconds: %d", rec.Code)
	}
	for range 80 { // more notes than there is room for
		clock.Advance(2 * time.Second)
		call("mallory", "POST")
	}
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range issuer.Reports() {
		got[r.Subject+" "+string(r.Kind)+" "+r.Reason] += r.Count
	}
	if len(got) != 2 || got["mallory "+string(reports.Limit)+" notes-write"] != 10 || got["mallory "+string(reports.Judgement)+" notes full"] != 11 {
		t.Errorf("reported %v", got)
	}
}
