package attacks

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// proxy stands between the API and the server, and does to the answers what it
// likes.
type proxy struct {
	mu     sync.Mutex
	tamper func(path string, body io.ReadCloser) io.ReadCloser // of mu
}

func (p *proxy) set(tamper func(string, io.ReadCloser) io.ReadCloser) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tamper = tamper
}

func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tamper != nil && strings.HasPrefix(r.URL.Path, "/feed") {
		resp.ContentLength = -1
		resp.Body = p.tamper(r.URL.Path, resp.Body)
	}
	return resp, nil
}

// messages rewrites a stream message by message; what is returned is sent, and
// an error ends it.
func messages(body io.ReadCloser, each func(n int, jws string) ([]string, error)) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		defer body.Close()
		in := feed.NewReader(body)
		for n := 0; ; n++ {
			jws, err := in.Next()
			var list []string
			if err == nil {
				list, err = each(n, jws)
			}
			for _, out := range list {
				if _, err := w.Write(feed.AppendMessage(nil, "", out)); err != nil {
					return
				}
			}
			if err != nil {
				w.CloseWithError(err)
				return
			}
		}
	}()
	return r
}

func isEvent(jws string) bool {
	head, _, _ := strings.Cut(jws, ".")
	text, err := decode(head)
	return err == nil && strings.Contains(string(text), feed.EventType)
}

// hands is what a proxy can do its worst with.
type hands struct {
	old        []string // all that was ever sent before
	token      string   // an access token
	alice, bob storage.UserID
}

// forged is the document about another user, with the signature of before.
func (h *hands) forged(jws string) string {
	parts := strings.Split(jws, ".")
	claims, err := decode(parts[1])
	if err != nil {
		return jws
	}
	return parts[0] + "." + encode(bytes.ReplaceAll(claims, []byte(h.alice), []byte(h.bob))) + "." + parts[2]
}

// proxies are what they do with each message of the stream.
var proxies = map[string]func(h *hands, jws string) ([]string, error){
	"drops events": func(_ *hands, jws string) ([]string, error) {
		if isEvent(jws) {
			return nil, nil
		}
		return []string{jws}, nil
	},
	"drops everything":     func(*hands, string) ([]string, error) { return nil, nil },
	"repeats everything":   func(_ *hands, jws string) ([]string, error) { return []string{jws, jws}, nil },
	"sends old ones again": func(h *hands, jws string) ([]string, error) { return append([]string{jws}, h.old...), nil },
	"sends only old ones":  func(h *hands, _ string) ([]string, error) { return h.old, nil },
	"sends heartbeats late": func(h *hands, jws string) ([]string, error) {
		h.old = append(h.old, jws)
		return h.old[len(h.old)/2:][:1], nil
	},
	"forges": func(h *hands, jws string) ([]string, error) { return []string{h.forged(jws), jws}, nil },
	"truncates events": func(_ *hands, jws string) ([]string, error) {
		if isEvent(jws) {
			return []string{jws[:len(jws)/2]}, nil
		}
		return []string{jws}, nil
	},
	"ends the stream at each event": func(_ *hands, jws string) ([]string, error) {
		if isEvent(jws) {
			return nil, io.ErrUnexpectedEOF
		}
		return []string{jws}, nil
	},
	"sends garbage":         func(*hands, string) ([]string, error) { return []string{"a.b.c", strings.Repeat("x", 1000)}, nil },
	"sends an access token": func(h *hands, _ string) ([]string, error) { return []string{h.token}, nil },
}

// F37: whatever a proxy does to the stream, what was revoked is refused, at the
// latest when the feed counts as stale, and is known as revoked as soon as the
// proxy lets anything through. Nobody else's tokens end.
func TestF37FeedInTheHandsOfAProxy(t *testing.T) {
	for name, tamper := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := authztest.New(t, func(c *authz.Config) { c.FeedHeartbeat = 50 * time.Millisecond })
			serve(t, s)
			credential := registerAPI(t, s)
			s.AddUser("bob")
			h := &hands{alice: s.User("alice").ID, bob: s.User("bob").ID}
			var recording sync.Mutex
			through := make(chan struct{}, 1000)
			p := &proxy{}
			stream := func(each func(jws string) ([]string, error)) func(string, io.ReadCloser) io.ReadCloser {
				return func(path string, body io.ReadCloser) io.ReadCloser {
					if path != "/feed" {
						return body
					}
					return messages(body, func(_ int, jws string) ([]string, error) {
						recording.Lock()
						defer recording.Unlock()
						select {
						case through <- struct{}{}:
						default:
						}
						return each(jws)
					})
				}
			}
			// At first it is honest, and remembers everything.
			p.set(stream(func(jws string) ([]string, error) { h.old = append(h.old, jws); return []string{jws}, nil }))
			victim := follow(t, s, credential, &http.Client{Transport: p})
			<-through
			first := s.SignIn("alice").AccessToken
			check(t, s.Revoker.RevokeUser(t.Context(), h.alice, "test"))
			if !victim.refusesWithin(first) {
				t.Fatal("through an honest proxy nothing is revoked")
			}
			token, bob := s.SignIn("alice").AccessToken, s.SignIn("bob").AccessToken
			recording.Lock()
			h.token = bob
			recording.Unlock()
			if victim.answers(token) != http.StatusOK || victim.answers(bob) != http.StatusOK {
				t.Fatal("the new tokens are refused")
			}

			p.set(stream(func(jws string) ([]string, error) { return tamper(h, jws) }))
			endStreams(t, s, credential)
			for len(through) > 0 {
				<-through
			}
			<-through
			check(t, s.Revoker.RevokeUser(t.Context(), h.alice, "test"))
			began := time.Now()
			for victim.answers(token) == http.StatusOK {
				if time.Since(began) > 15*time.Second {
					t.Fatal("a revoked token lives on")
				}
			}
			t.Logf("refused after %s", time.Since(began).Round(time.Millisecond))
			p.set(nil)
			endStreams(t, s, credential)
			for began = time.Now(); victim.answers(token) != http.StatusUnauthorized || victim.answers(bob) != http.StatusOK; {
				if time.Since(began) > time.Minute {
					t.Fatalf("in peace again alice gets %d and bob %d", victim.answers(token), victim.answers(bob))
				}
			}
		})
	}
}

// endStreams ends all streams by a change of the credential's record: everybody
// who follows has to show it again.
func endStreams(t *testing.T, s *authztest.Server, c verify.Credential) {
	t.Helper()
	rs, err := s.Store.ResourceServer(t.Context(), clients.ID(c.ID))
	check(t, err)
	check(t, s.Store.UpdateResourceServer(t.Context(), rs))
}
