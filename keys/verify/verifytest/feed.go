package verifytest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
)

// Feed is the issuer's revocation feed: what [Issuer.Revoke] ended, as signed
// documents of the package feed, streamed and as a snapshot.
type Feed struct {
	// Streams counts how often the stream was asked for, Pages how many pages
	// of the snapshot, Questions how many introspections.
	Streams, Pages, Questions atomic.Int64

	issuer *Issuer

	mu        sync.Mutex // guards what follows
	resources map[string]resource
	events    []feed.Event // event i has the cursor past+i+1
	past      int
	backlog   int // the stream can't go on from cursors before it
	epochs    map[feed.Kind]map[string]uint64
	changed   chan struct{} // closed at each change, and made anew
	cut       chan struct{} // closed to cut all streams, and made anew
	beat      int           // heartbeats that were asked for
	stalled   bool
	page      int
	heartbeat time.Duration
	tamper    Tamper
	key       *Key
}

// resource is a registered resource server: one of secret and public is set.
type resource struct {
	audience, secret string
	public           any
}

func newFeed(i *Issuer) *Feed {
	return &Feed{
		issuer: i, resources: map[string]resource{}, epochs: map[feed.Kind]map[string]uint64{feed.User: {}, feed.Client: {}},
		changed: make(chan struct{}), cut: make(chan struct{}), page: feed.MaxPage, heartbeat: time.Second,
	}
}

// Credential registers a resource server for the audience and returns its
// credential, with a secret.
func (i *Issuer) Credential(audience string) *verify.Credential {
	f := i.Feed
	f.mu.Lock()
	defer f.mu.Unlock()
	id, secret := fmt.Sprintf("api-%d", len(f.resources)+1), rand.Text()
	f.resources[id] = resource{audience: audience, secret: secret}
	return &verify.Credential{ID: id, Secret: secret}
}

// KeyCredential is Credential with a key instead of a secret (RFC 7523 §2.2).
func (i *Issuer) KeyCredential(audience string, key Key) *verify.Credential {
	f := i.Feed
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fmt.Sprintf("api-%d", len(f.resources)+1)
	f.resources[id] = resource{audience: audience, public: key.Private.Public()}
	return &verify.Credential{ID: id, Key: key.Private, KeyID: key.ID}
}

// Revoke ends what has the identifier and says so in the feed. A user or a
// client begins a new epoch: tokens that the issuer makes from now on are good
// again. It returns the event.
func (i *Issuer) Revoke(kind feed.Kind, subject string) feed.Event {
	f := i.Feed
	f.mu.Lock()
	defer f.mu.Unlock()
	now := i.now()
	e := feed.Event{ID: rand.Text(), Kind: kind, Subject: subject, NotBefore: now, Until: now.Add(5 * time.Minute)}
	if epochs := f.epochs[kind]; epochs != nil {
		epochs[subject]++
		e.Epoch = epochs[subject]
	}
	f.events = append(f.events, e)
	f.change()
	return e
}

// RevokeEvents appends events as they are, all at once.
func (i *Issuer) RevokeEvents(events ...feed.Event) {
	f := i.Feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, events...)
	f.change()
}

// epochsOf returns the claims user_epoch and client_epoch, where they are not 0.
func (f *Feed) epochsOf(claims map[string]any) map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := map[string]uint64{}
	if user, ok := claims["sub"].(string); ok && f.epochs[feed.User][user] > 0 {
		found["user_epoch"] = f.epochs[feed.User][user]
	}
	if client, ok := claims["client_id"].(string); ok && f.epochs[feed.Client][client] > 0 {
		found["client_epoch"] = f.epochs[feed.Client][client]
	}
	return found
}

// change wakes all streams. mu is held.
func (f *Feed) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Cut cuts the connection of each stream in the middle.
func (f *Feed) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.cut)
	f.cut = make(chan struct{})
}

// Stall makes all streams stay open and silent, or go on.
func (f *Feed) Stall(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stalled = on
	f.change()
}

// Beat sends a heartbeat on each stream.
func (f *Feed) Beat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beat++
	f.change()
}

// SetHeartbeat sets the time between heartbeats: a second if it is not called.
// Streams that are open keep theirs.
func (f *Feed) SetHeartbeat(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heartbeat = d
}

// SetPage sets how many events a page of the snapshot has.
func (f *Feed) SetPage(events int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.page = events
}

// SetKey makes the feed's documents be signed with a key of its own, which
// need not be published. Nil is the issuer's first key.
func (f *Feed) SetKey(k *Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = k
}

// Forget makes the issuer not know the cursors that it gave out until now: the
// same events have others.
func (f *Feed) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.past += 1000000
}

// Shorten makes streams unable to go on from where they are; a snapshot can.
func (f *Feed) Shorten() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backlog = len(f.events) + 1
}

// Tamper makes what is sent of each document of a stream: none, another one, or
// several. It is called by one stream at a time.
type Tamper func(jws string) []string

// Tamper puts somebody between the issuer and those who follow. Nil takes him
// away.
func (f *Feed) Tamper(t Tamper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tamper = t
}

// Drop drops one document.
func Drop() Tamper {
	return once(func(string) []string { return nil })
}

// Repeat sends one document twice.
func Repeat() Tamper {
	return once(func(jws string) []string { return []string{jws, jws} })
}

// Truncate sends one document without its end.
func Truncate() Tamper {
	return once(func(jws string) []string { return []string{jws[:len(jws)*2/3]} })
}

// Forge changes the claims of one document under its signature.
func Forge() Tamper {
	return once(func(jws string) []string {
		parts := strings.Split(jws, ".")
		middle := []byte(parts[1])
		at := len(middle) / 2
		if middle[at]++; middle[at] > 'z' || middle[at] == '[' || middle[at] == ':' {
			middle[at] = 'A'
		}
		return []string{parts[0] + "." + string(middle) + "." + parts[2]}
	})
}

// Reorder sends two documents in the wrong order.
func Reorder() Tamper {
	held, done := "", false
	return func(jws string) []string {
		switch {
		case done:
			return []string{jws}
		case held == "":
			held = jws
			return nil
		}
		done = true
		return []string{jws, held}
	}
}

func once(t Tamper) Tamper {
	done := false
	return func(jws string) []string {
		if done {
			return []string{jws}
		}
		done = true
		return t(jws)
	}
}

// cursor is that of the event with the number, from 1 on; "" is before all. mu
// is held.
func (f *Feed) cursor(n int) feed.Cursor {
	if n == 0 {
		return ""
	}
	return feed.Cursor(fmt.Sprintf("%012d", f.past+n))
}

// number is the reverse, for those that are known. mu is held.
func (f *Feed) number(c string) (int, bool) {
	if c == "" {
		return 0, true
	}
	n, err := strconv.Atoi(c)
	n -= f.past
	return n, err == nil && n > 0 && n <= len(f.events) && string(f.cursor(n)) == c
}

// sign signs a document.
func (f *Feed) sign(typ string, m *feed.Message) string {
	m.Issuer, m.IssuedAt = f.issuer.URL, f.issuer.now()
	payload, err := m.Claims(typ)
	if err != nil {
		f.issuer.tb.Errorf("the feed's document can't be made: %v", err)
		return ""
	}
	f.mu.Lock()
	key := f.key
	f.mu.Unlock()
	if key == nil {
		first := f.issuer.Key()
		key = &first
	}
	return f.issuer.SignBytes(*key, map[string]any{"typ": typ}, payload)
}

// serve registers the endpoints.
func (f *Feed) serve(mux *http.ServeMux) {
	mux.HandleFunc("POST /feed", f.stream)
	mux.HandleFunc("POST /feed"+feed.SnapshotPath, f.snapshot)
	mux.HandleFunc("POST /introspect", f.introspect)
}

// asks returns the audience of the resource server that asks, or answers.
func (f *Feed) asks(w http.ResponseWriter, r *http.Request) (audience string, ok bool) {
	id, secret, basic := r.BasicAuth()
	id, err := url.QueryUnescape(id)
	if assertion := r.PostFormValue("client_assertion"); !basic && err == nil {
		id, err = f.asserted(assertion)
	}
	f.mu.Lock()
	known := f.resources[id]
	f.mu.Unlock()
	if err != nil || known.audience == "" || basic && (known.secret == "" || known.secret != secret) {
		http.Error(w, "the credential is missing or wrong", http.StatusUnauthorized)
		return "", false
	}
	return known.audience, true
}

// asserted returns who signed a client assertion (RFC 7523 §3).
func (f *Feed) asserted(assertion string) (string, error) {
	jws, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256})
	if err != nil {
		return "", err
	}
	var c jwt.Claims
	if err := jws.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", err
	}
	f.mu.Lock()
	public := f.resources[c.Subject].public
	f.mu.Unlock()
	if public == nil || c.Issuer != c.Subject {
		return "", errors.New("unknown resource server")
	}
	if err := jws.Claims(public, &c); err != nil {
		return "", err
	}
	return c.Subject, c.Validate(jwt.Expected{AnyAudience: jwt.Audience{f.issuer.URL}, Time: f.issuer.now()})
}

// introspect says that a token is active as long as no event names it.
func (f *Feed) introspect(w http.ResponseWriter, r *http.Request) {
	f.Questions.Add(1)
	if _, ok := f.asks(w, r); !ok {
		return
	}
	jws, err := jwt.ParseSigned(r.PostFormValue("token"), []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256})
	var c struct {
		Subject string `json:"sub"`
		Client  string `json:"client_id"`
		ID      string `json:"jti"`
		Session string `json:"sid"`
		Grant   string `json:"grant_id"`
		User    uint64 `json:"user_epoch"`
		Epoch   uint64 `json:"client_epoch"`
	}
	active := err == nil && jws.UnsafeClaimsWithoutVerification(&c) == nil
	f.mu.Lock()
	for _, e := range f.events {
		switch e.Kind {
		case feed.User:
			active = active && (e.Subject != c.Subject || c.User >= e.Epoch)
		case feed.Client:
			active = active && (e.Subject != c.Client || c.Epoch >= e.Epoch)
		default:
			active = active && e.Subject != c.ID && e.Subject != c.Session && e.Subject != c.Grant
		}
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"active": active})
}
