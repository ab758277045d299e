package backchannel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// decode returns the header and the claims of a token that the ring signed.
func (w *world) decode(token string) (header, claims map[string]any) {
	w.t.Helper()
	payload, err := w.ring.Verify(token, TokenType)
	check(w.t, err)
	check(w.t, json.Unmarshal(payload, &claims))
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	check(w.t, err)
	check(w.t, json.Unmarshal(text, &header))
	return header, claims
}

func TestLogoutToken(t *testing.T) {
	r := newReceiver(t, false, nil)
	w := newWorld(t, r.URL+"/backchannel?of=rp")
	r.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		check(t, req.ParseForm())
		if req.URL.RawQuery != "of=rp" {
			t.Errorf("query %q", req.URL.RawQuery)
		}
		r.bodies <- req.PostForm
	})
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
	w.sender(w.store, w.queue, nil).deliver1(t)
	form := <-r.bodies
	if len(form) != 1 || len(form["logout_token"]) != 1 {
		t.Fatalf("form %v: logout_token alone expected", form)
	}
	header, claims := w.decode(form.Get("logout_token"))
	if header["typ"] != "logout+jwt" || header["alg"] != "EdDSA" {
		t.Errorf("header %v", header)
	}
	if jti, _ := claims["jti"].(string); len(jti) < 20 {
		t.Errorf("jti %v", claims["jti"])
	}
	delete(claims, "jti")
	got, _ := json.Marshal(claims)
	now := w.clock().Unix()
	want := fmt.Sprintf(`{"aud":"rp","events":{"http://schemas.openid.net/event/backchannel-logout":{}},"exp":%d,"iat":%d,"iss":"https://login.example.com","sid":"u.s1","sub":"u"}`, now+120, now)
	if string(got) != want {
		t.Errorf("claims\n%s, expected\n%s", got, want)
	}
	w.wantOwed()
	if w.audited("logout delivered", "") != 1 {
		t.Errorf("the audit log says nothing:\n%s", w.logged())
	}
	if strings.Contains(w.logged(), form.Get("logout_token")) {
		t.Error("the token is in the log")
	}
}

// TestWhatAnAnswerMeans: 2xx is success, 400 a refusal, all else is tried again.
func TestWhatAnAnswerMeans(t *testing.T) {
	for status, c := range map[int]struct {
		finished bool
		audit    string
	}{
		200: {true, "logout delivered"}, 204: {true, "logout delivered"}, 202: {true, "logout delivered"},
		400: {true, "logout given up"},
		301: {}, 302: {}, 307: {}, 401: {}, 403: {}, 404: {}, 405: {}, 408: {}, 429: {}, 500: {}, 501: {}, 503: {}, 0: {},
	} {
		w := newWorld(t, "https://rp.example.com/logout")
		check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
		s := w.sender(w.store, w.queue, func(context.Context, string, string) (int, error) {
			if status == 0 {
				return 0, errors.New("connection refused")
			}
			return status, nil
		})
		s.deliver1(t)
		if finished := len(w.owed()) == 0; finished != c.finished || c.audit != "" && w.audited(c.audit, "") != 1 || c.audit == "" && strings.Contains(w.logged(), "logout ") && w.audited("logout", "") != 0 {
			t.Errorf("%d: finished %t, %s", status, finished, w.logged())
		}
	}
}

// TestReceiverThatFailsTwiceIsToldTheThirdTime, each time by a new token.
func TestReceiverThatFailsTwiceIsToldTheThirdTime(t *testing.T) {
	var n atomic.Int64
	r := newReceiver(t, false, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	w := newWorld(t, r.URL)
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
	s := w.sender(w.store, w.queue, nil)
	seen := map[any]bool{}
	for range 3 {
		if s.deliver1(t) != 1 || s.deliver1(t) != 0 {
			t.Fatalf("one attempt expected, then none until it is due again:\n%s", w.logged())
		}
		_, claims := w.decode((<-r.bodies).Get("logout_token"))
		if seen[claims["jti"]] || int64(claims["iat"].(float64)) != w.clock().Unix() {
			t.Errorf("the token is not a new one: %v", claims)
		}
		seen[claims["jti"]] = true
		w.untilDue("u.s1")
	}
	w.wantOwed()
	if w.audited("logout delivered", "") != 1 {
		t.Error("it was not audited")
	}
}

// TestWaitsGrowAndEndAfterADay: attempts get rarer, and after a day the audit
// log says that the client was not told.
func TestWaitsGrowAndEndAfterADay(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
	began := w.clock()
	var at []time.Duration
	s := w.sender(w.store, w.queue, func(context.Context, string, string) (int, error) {
		at = append(at, w.clock().Sub(began))
		return http.StatusServiceUnavailable, nil
	})
	for s.deliver1(t) == 1 && len(at) < 100 {
		w.untilDue("u.s1")
	}
	for i := 1; i < len(at); i++ {
		wait, age := at[i]-at[i-1], at[i-1]
		least := between(age, 5*time.Second, time.Hour)
		if wait < least || wait > least*5/4 {
			t.Errorf("attempt %d came %s after the one at %s", i, wait, age)
		}
	}
	if len(at) < 25 || len(at) > 40 || at[len(at)-1] < 22*time.Hour {
		t.Errorf("%d attempts, the last after %s", len(at), at[len(at)-1])
	}
	w.wantOwed()
	if w.audited("logout given up", "for a day") != 1 {
		t.Errorf("giving up was not audited")
	}
}

// TestNothingIsSentWhileTheSessionLives: who announced the end may have died
// before it was written, or not have written it yet.
func TestNothingIsSentWhileTheSessionLives(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	sent := 0
	s := w.sender(w.store, w.queue, func(context.Context, string, string) (int, error) { sent++; return 200, nil })
	w.queue.Ending(t.Context(), "u", "u.s1")
	for range 60 {
		s.deliver1(t)
		w.advance(time.Minute)
	}
	if sent != 0 {
		t.Fatal("a logout token of a session that lives was sent")
	}
	w.wantOwed("u.s1 rp")
	// An hour later it ends for good, by another process that finds the note
	// there.
	_, r := w.process(w.open())
	check(t, r.EndSession(t.Context(), "u.s1", "x"))
	w.advance(time.Minute)
	if s.deliver1(t); sent != 1 {
		t.Error("the end was not told")
	}
	w.wantOwed()
}

func TestClientThatIsNotServedIsNotTold(t *testing.T) {
	for name, change := range map[string]func(*clients.Client){
		"disabled": func(c *clients.Client) { c.Disabled = true },
		"no more":  func(c *clients.Client) { c.BackchannelLogoutURI = "" },
		"removed":  nil,
	} {
		w := newWorld(t, "https://rp.example.com/logout")
		check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
		if change == nil {
			check(t, w.store.RemoveClient(t.Context(), "rp"))
		} else {
			c, err := w.store.Client(t.Context(), "rp")
			check(t, err)
			change(&c)
			check(t, w.store.UpdateClient(t.Context(), c))
		}
		s := w.sender(w.store, w.queue, func(context.Context, string, string) (int, error) { t.Errorf("%s: sent", name); return 200, nil })
		s.deliver1(t)
		w.wantOwed()
		if w.audited("logout given up", "gone or disabled") != 1 {
			t.Errorf("%s: not audited", name)
		}
	}
	w := newWorld(t, "https://rp.example.com/logout") // registered for development
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
	s := w.sender(w.store, w.queue, func(context.Context, string, string) (int, error) { t.Error("sent"); return 200, nil })
	s.Development = false
	s.deliver1(t)
	w.wantOwed()
}

// TestReceiverThatHangsLeavesRoomForOthers: while it rests, its notes are put
// off without an attempt.
func TestReceiverThatHangsLeavesRoomForOthers(t *testing.T) {
	w := newWorld(t, "https://hangs.example.com")
	check(t, w.store.CreateClient(t.Context(), clients.Client{ID: "quick", BackchannelLogoutURI: "https://quick.example.com", IDTokenAlg: "ES256"}))
	w.session("u.s2", "rp", "quick")
	check(t, w.revoker.RevokeUser(t.Context(), "u", "x"))
	asked := map[string]int{}
	s := w.sender(w.store, w.queue, func(_ context.Context, uri, _ string) (int, error) {
		if asked[uri]++; strings.Contains(uri, "hangs") {
			return 0, context.DeadlineExceeded
		}
		return 200, nil
	})
	s.deliver1(t)
	if asked["https://hangs.example.com"] != 1 || asked["https://quick.example.com"] != 1 {
		t.Errorf("asked %v: each once expected", asked)
	}
	w.wantOwed("u.s1 rp", "u.s2 rp")
	w.advance(restFor + 2*time.Second)
	s.deliver1(t)
	if asked["https://hangs.example.com"] != 2 {
		t.Errorf("asked %v: a second time after its rest expected", asked)
	}
}

// TestAnotherServerDeliversWhatIsLeft: the process that added it died, before
// or in the middle of its own attempt.
func TestAnotherServerDeliversWhatIsLeft(t *testing.T) {
	r := newReceiver(t, false, nil)
	w := newWorld(t, r.URL)
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "x"))
	claimed, err := w.store.ClaimLogouts(t.Context(), w.clock(), w.clock().Add(lease), 10)
	check(t, err)
	check(t, w.store.Close()) // and it is gone
	if len(claimed) != 1 {
		t.Fatalf("claimed %v", claimed)
	}
	w.store = w.open()
	queue, _ := w.process(w.store)
	s := w.sender(w.store, queue, nil)
	if s.deliver1(t) != 0 {
		t.Error("another server took what is claimed")
	}
	w.advance(lease)
	if s.deliver1(t) != 1 || r.requests.Load() != 1 {
		t.Error("the claim ran out and nobody delivered")
	}
	w.wantOwed()
}

// TestTwoServersNeverDeliverTheSameTwice runs two on one store for real.
func TestTwoServersNeverDeliverTheSameTwice(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	const sessions = 31
	for i := range sessions - 1 {
		w.session(storage.SessionID(fmt.Sprintf("u.x%02d", i)), "rp")
	}
	sent := make(chan string, 2*sessions)
	post := func(_ context.Context, _, token string) (int, error) {
		_, claims := w.decode(token)
		sent <- claims["sid"].(string)
		return 200, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	var ends, work sync.WaitGroup
	var servers []*Sender
	for range 2 {
		store := w.open()
		queue, r := w.process(store)
		servers = append(servers, w.sender(store, queue, post))
		ends.Go(func() {
			if err := r.RevokeUser(t.Context(), "u", "x"); err != nil {
				t.Error(err)
			}
		})
	}
	ends.Wait() // who ends it once more, after it was told, may have it told again
	for _, s := range servers {
		work.Go(func() { s.Run(ctx) })
	}
	seen := map[string]bool{}
	for range sessions {
		sid := <-sent
		if seen[sid] {
			t.Errorf("%s was delivered twice", sid)
		}
		seen[sid] = true
	}
	stop()
	work.Wait()
	w.wantOwed()
	if len(sent) > 0 {
		t.Errorf("%s was delivered twice", <-sent)
	}
}
