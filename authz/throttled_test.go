package authz_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

const every = 10 * time.Minute

// throttle slows alice down: one login and one refresh in each ten minutes.
func throttle(s *authztest.Server) {
	s.TB.Helper()
	if err := s.Revoker.ThrottleUser(s.TB.Context(), s.User("alice").ID, storage.Throttle{Rule: "flood", Reason: "120 reports of the orders API", Every: every}); err != nil {
		s.TB.Fatal(err)
	}
}

// left is how long the ten minutes last that it is now.
func left(s *authztest.Server) time.Duration {
	return every - time.Duration(s.Clock.Now().UnixNano()%int64(every))
}

// tooSoon checks an answer that tells a client when to come again.
func tooSoon(t *testing.T, s *authztest.Server, got authztest.Tokens) {
	t.Helper()
	if got.Status != http.StatusTooManyRequests || got.Error != "temporarily_unavailable" || got.AccessToken != "" || got.RefreshToken != "" {
		t.Errorf("the answer is %+v, 429 and temporarily_unavailable expected", got)
	}
	if want := strconv.Itoa(int(left(s) / time.Second)); got.Header.Get("Retry-After") != want {
		t.Errorf("Retry-After is %q, %q expected", got.Header.Get("Retry-After"), want)
	}
	if strings.Contains(got.Description, "flood") || strings.Contains(got.Description, "orders") {
		t.Errorf("the client is told %q", got.Description)
	}
}

// TestThrottledRefresh: one in each part of time, with whichever grant; what is
// refused is not consumed, and ends nothing.
func TestThrottledRefresh(t *testing.T) {
	s := authztest.New(t)
	phone, laptop := s.SignIn("alice"), s.SignIn("alice")
	s.AddUser("bob")
	bob := s.SignIn("bob")
	phone = s.Refresh(phone.RefreshToken) // as ever
	throttle(s)
	s.Clock.Advance(left(s)) // to the begin of a part
	for range 3 {
		next := s.Refresh(phone.RefreshToken)
		if next.Status != http.StatusOK {
			t.Fatalf("the one refresh: %+v", next)
		}
		for range 3 {
			got := s.Refresh(next.RefreshToken)
			tooSoon(t, s, got)
			if !strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
				t.Error("the page can't read when to come again")
			}
			tooSoon(t, s, s.Refresh(laptop.RefreshToken))
			s.Clock.Advance(every / 4)
		}
		// Patience is no reuse, long after the grace window.
		s.Clock.Advance(left(s))
		phone = next
	}
	if got := s.Refresh(laptop.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the other grant, in its turn: %+v", got)
	}
	tooSoon(t, s, s.Refresh(phone.RefreshToken))
	if got := s.Refresh(bob.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("somebody else: %+v", got)
	}
	check(t, s.Revoker.Lift(t.Context(), s.User("alice").ID, "test"))
	if phone = s.Refresh(phone.RefreshToken); phone.Status != http.StatusOK || s.Refresh(phone.RefreshToken).Status != http.StatusOK {
		t.Error("a throttle that was lifted slows down")
	}
}

// TestThrottleEnds: it slows down until its end, and what would be later may be
// then.
func TestThrottleEnds(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	s.Clock.Advance(left(s))
	check(t, s.Revoker.ThrottleUser(t.Context(), s.User("alice").ID, storage.Throttle{Rule: "flood", Every: every, Until: s.Clock.Now().Add(time.Minute)}))
	tokens = s.Refresh(tokens.RefreshToken)
	if got := s.Refresh(tokens.RefreshToken); got.Status != http.StatusTooManyRequests || got.Header.Get("Retry-After") != "60" {
		t.Errorf("%d, Retry-After %s; 60 expected", got.Status, got.Header.Get("Retry-After"))
	}
	s.Clock.Advance(time.Minute)
	for range 2 {
		if tokens = s.Refresh(tokens.RefreshToken); tokens.Status != http.StatusOK {
			t.Errorf("after its end: %+v", tokens)
		}
	}
}

// TestThrottledTabs: several tabs that refresh at once with one token, and
// whoever asks again because the answer was lost, are one refresh. To refuse one
// of them would make a thief of it when it comes again.
func TestThrottledTabs(t *testing.T) {
	s := authztest.New(t)
	replica := s.Replica()
	tokens := s.SignIn("alice")
	throttle(s)
	s.Clock.Advance(left(s))
	answers := make([]authztest.Tokens, 16)
	var tabs sync.WaitGroup
	for i := range answers {
		tabs.Go(func() { answers[i] = []*authztest.Server{s, replica}[i%2].Refresh(tokens.RefreshToken) })
	}
	tabs.Wait()
	for _, got := range answers {
		if got.Status != http.StatusOK || got.RefreshToken != answers[0].RefreshToken {
			t.Errorf("a tab got %+v", got)
		}
	}
	tooSoon(t, s, s.Refresh(answers[0].RefreshToken))
	s.Clock.Advance(left(s))
	if got := s.Refresh(answers[0].RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the next: %+v", got)
	}
}

// TestThrottledLogin: one in each part of time; only who knows the password is
// told, and only they use it up.
func TestThrottledLogin(t *testing.T) {
	s := authztest.New(t)
	throttle(s)
	s.Clock.Advance(left(s))
	attempt := func(secret string) authztest.Page {
		b := s.Browser()
		return b.SignIn(b.Authorize(), "alice", secret)
	}
	wrong := attempt("another long password")
	if code := attempt(authztest.Password).Answer().Get("code"); code == "" || s.Redeem(code).Status != http.StatusOK {
		t.Fatal("the one login does not work")
	}
	s.Clock.Advance(time.Minute)
	p := attempt(authztest.Password)
	want := "This account is slowed down because of how it was used. It can be used to sign in again from " +
		s.Clock.Now().Add(left(s)).Format("2 January 2006 at 15:04 UTC") + " on."
	if p.StatusCode != http.StatusTooManyRequests || problem(p) != want || p.Header.Get("Retry-After") != strconv.Itoa(int(left(s)/time.Second)) {
		t.Errorf("%d, %q, Retry-After %s", p.StatusCode, problem(p), p.Header.Get("Retry-After"))
	}
	if again := attempt("another long password"); again.StatusCode != wrong.StatusCode || problem(again) != problem(wrong) {
		t.Errorf("without the password: %d, %q", again.StatusCode, problem(again))
	}
	if !strings.Contains(s.Log.String(), "the user is throttled") {
		t.Error("the audit log does not say why")
	}
	s.Clock.Advance(left(s))
	if attempt(authztest.Password).Answer().Get("code") == "" {
		t.Error("the next login does not work")
	}
	// One that leads to no grant is a login, too.
	s.Clock.Advance(left(s))
	b := s.Browser()
	form := b.Authorize().Form()
	form.Set("username", "alice")
	form.Set("password", authztest.Password)
	if p := b.Post("/login", form); p.StatusCode != http.StatusSeeOther {
		t.Errorf("a login: %d", p.StatusCode)
	}
	if p := attempt(authztest.Password); p.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second login: %d", p.StatusCode)
	}
}

// TestThrottledGrants: a code is worth a new access token, so whoever is signed
// in gets one code as well, asked or not.
func TestThrottledGrants(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	before := b.Code("alice")
	throttle(s)
	s.Clock.Advance(left(s) - 30*time.Second)
	silent := b.Authorize("prompt", "none").Answer()
	if silent.Get("code") == "" || s.Redeem(silent.Get("code")).Status != http.StatusOK {
		t.Fatalf("the one silent authorization: %v", silent)
	}
	if got := b.Authorize("prompt", "none").Answer(); got.Get("error") != "temporarily_unavailable" || got.Get("code") != "" || got.Get("state") == "" {
		t.Errorf("the second: %v", got)
	}
	p := b.Authorize()
	if p.StatusCode != http.StatusTooManyRequests || p.Header.Get("Retry-After") != "30" || !strings.Contains(p.Body, "from "+s.Clock.Now().Add(left(s)).Format("2 January 2006 at 15:04 UTC")+" on") || p.Header.Get("Location") != "" {
		t.Errorf("with a page: %d, Retry-After %s\n%s", p.StatusCode, p.Header.Get("Retry-After"), p.Body)
	}
	// No login where no grant would come of it.
	other := s.Browser()
	if p := other.SignIn(other.Authorize(), "alice", authztest.Password); p.StatusCode != http.StatusTooManyRequests || problem(p) == "" {
		t.Errorf("a login: %d, %q", p.StatusCode, problem(p))
	}
	if got := s.Redeem(before); got.Error != "invalid_grant" { // its minute is over
		t.Errorf("a code of long ago: %+v", got)
	}
	s.Clock.Advance(left(s))
	form := b.Authorize("prompt", "login").Form()
	form.Set("username", "alice")
	form.Set("password", authztest.Password)
	back := b.Post("/login", form).Header.Get("Location")
	if b.Get(back).Answer().Get("code") == "" {
		t.Error("after the wait it does not work")
	}
	// The proof of one login is no second grant.
	if p := b.Get(back); p.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the way back from a login, once more: %d %v", p.StatusCode, p.Answer())
	}
}

// TestThrottleOfAPushedRequest: what is told to wait does not use it up.
func TestThrottleOfAPushedRequest(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	b.Code("alice")
	throttle(s)
	s.Clock.Advance(left(s) - time.Second)
	b.Code("alice")
	pushed := s.Push().RequestURI
	if p := b.Visit(pushed); p.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d", p.StatusCode)
	}
	s.Clock.Advance(left(s))
	if b.Visit(pushed).Answer().Get("code") == "" {
		t.Error("the pushed request does not work any more")
	}
}

// TestTripsOfTheThrottled: only whoever is slowed down costs more than
// [TestTrips] says, and no refresh does.
func TestTripsOfTheThrottled(t *testing.T) {
	real, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	check(t, err)
	defer real.Close()
	store := &counting{Store: real}
	s, _ := authztest.NewReplicas(t, []storage.Store{store}, []time.Duration{0})
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	check(t, authztest.Operator(real, s.Clock.Now).ThrottleUser(t.Context(), s.User("alice").ID, storage.Throttle{Rule: "flood", Every: every}))
	store.take()
	want := func(what string, trips ...string) {
		t.Helper()
		if got := store.take(); !slices.Equal(got, trips) {
			t.Errorf("%s asked the store for %v, %v expected", what, got, trips)
		}
	}
	code := b.Code("alice")
	want("an authorization", "SessionUser", "Count", "CreateGrant")
	s.Redeem(code)
	want("a code exchange", "Standing", "Redeem")
	next := s.Refresh(tokens.RefreshToken)
	want("a refresh", "Standing", "Rotate")
	tooSoon(t, s, s.Refresh(next.RefreshToken))
	want("a refresh that is too soon", "Standing", "Rotate")
}
