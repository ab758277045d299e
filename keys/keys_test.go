package keys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// store keeps a ring in memory.
type store struct {
	mu   sync.Mutex
	ring storage.KeyRing
	err  error
}

func (s *store) KeyRing(context.Context) (storage.KeyRing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring.Version == 0 && s.err == nil {
		return storage.KeyRing{}, storage.ErrNotFound
	}
	r := s.ring
	r.Keys = slices.Clone(r.Keys)
	return r, s.err
}

func (s *store) PutKeyRing(_ context.Context, r storage.KeyRing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if r.Version != s.ring.Version {
		return storage.ErrConflict
	}
	r.Version++
	s.ring = r
	return nil
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func master(t testing.TB) (keys.Master, string) {
	t.Helper()
	text, err := keys.GenerateMaster(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m, err := keys.ParseMaster([]byte(text + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m, text
}

type fixture struct {
	store  *store
	clock  *clock
	master keys.Master
	text   string
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{store: &store{}, clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}}
	f.master, f.text = master(t)
	return f
}

func (f *fixture) open(t testing.TB, options ...func(*keys.Config)) *keys.Ring {
	t.Helper()
	c := keys.Config{Store: f.store, Master: f.master, Now: f.clock.Now, Algorithms: []keys.Algorithm{keys.ES256, keys.EdDSA}}
	for _, option := range options {
		option(&c)
	}
	r, err := keys.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// turn lets a moment of Run happen: what others changed, and the schedule.
func (f *fixture) turn(t *testing.T) *keys.Ring { return f.open(t) }

func kid(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	var h struct{ Kid string }
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h.Kid
}

func sign(t *testing.T, r *keys.Ring, a keys.Algorithm) string {
	t.Helper()
	token, err := r.Sign(a, "at+jwt", []byte(`{"sub":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSignedTokensVerifyByTheSet(t *testing.T) {
	f := newFixture(t)
	r := f.open(t, func(c *keys.Config) { c.Algorithms = nil })
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(r.JWKS().Body, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 4 || bytes.Contains(r.JWKS().Body, []byte(`"d"`)) {
		t.Fatalf("the set is %s", r.JWKS().Body)
	}
	for _, a := range keys.Algorithms() {
		token := sign(t, r, a)
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a)})
		if err != nil {
			t.Fatal(err)
		}
		found := set.Key(kid(t, token))
		if len(found) != 1 {
			t.Fatalf("%s: the key is not in the set", a)
		}
		if payload, err := jws.Verify(found[0]); err != nil || string(payload) != `{"sub":"alice"}` || jws.Signatures[0].Header.ExtraHeaders["typ"] != "at+jwt" {
			t.Errorf("%s: %q, %v", a, payload, err)
		}
		if payload, err := r.Verify(token, "at+jwt"); err != nil || string(payload) != `{"sub":"alice"}` {
			t.Errorf("%s: our own Verify: %q, %v", a, payload, err)
		}
		for name, bad := range map[string]string{
			"typ":       token,
			"signature": token[:len(token)-8] + "AAAAAAAA",
			"padding":   token + "=",
			"parts":     token + ".x",
			"payload":   strings.Replace(token, ".", ".e30", 1),
			"line":      token[:10] + "\n" + token[10:],
			"long":      strings.Repeat("A", 10000),
		} {
			typ := "at+jwt"
			if name == "typ" {
				typ = "JWT"
			}
			if _, err := r.Verify(bad, typ); !errors.Is(err, keys.ErrToken) {
				t.Errorf("%s with a bad %s: %v", a, name, err)
			}
		}
	}
}

func TestLifeOfAKey(t *testing.T) {
	f := newFixture(t)
	r := f.open(t)
	first := kid(t, sign(t, r, keys.ES256))
	token := sign(t, r, keys.ES256)
	at := func(what, want string, published ...string) {
		t.Helper()
		r = f.turn(t)
		if got := kid(t, sign(t, r, keys.ES256)); want != "" && got != want {
			t.Errorf("%s: %s signs, %s expected", what, got, want)
		}
		for _, p := range published {
			if !bytes.Contains(r.JWKS().Body, []byte(p)) {
				t.Errorf("%s: %s is not published", what, p)
			}
		}
	}
	f.clock.advance(89*24*time.Hour - time.Minute)
	at("before the next is published", first, first)
	if n := len(r.List()); n != 2 {
		t.Errorf("%d keys", n)
	}
	f.clock.advance(time.Minute)
	r = f.turn(t)
	next := ""
	for _, k := range r.List() {
		if k.Algorithm == keys.ES256 && k.State == "next" {
			next = k.ID
		}
	}
	at("published ahead", first, first, next)
	f.clock.advance(24*time.Hour - time.Second)
	at("just before it takes over", first, first, next)
	f.clock.advance(time.Second)
	// The handover needs no Run: the ring at hand does it by the clock.
	if got := kid(t, sign(t, r, keys.ES256)); got != next {
		t.Errorf("%s signs at the handover, %s expected", got, next)
	}
	at("after the handover", next, first, next)
	if _, err := r.Verify(token, "at+jwt"); err != nil {
		t.Errorf("a token of the retired key: %v", err)
	}
	f.clock.advance(time.Hour + keys.Skew - time.Second)
	at("while its last token may live", next, first, next)
	f.clock.advance(time.Second)
	at("after that", next, next)
	if bytes.Contains(r.JWKS().Body, []byte(first)) {
		t.Error("the retired key is published for ever")
	}
	if _, err := r.Verify(token, "at+jwt"); !errors.Is(err, keys.ErrToken) {
		t.Errorf("a token of the deleted key: %v", err)
	}
}

func TestServerThatWasOff(t *testing.T) {
	f := newFixture(t)
	first := kid(t, sign(t, f.open(t), keys.ES256))
	f.clock.advance(365 * 24 * time.Hour)
	r := f.open(t)
	if got := kid(t, sign(t, r, keys.ES256)); got != first {
		t.Errorf("a key signs that nobody has fetched")
	}
	f.clock.advance(15 * time.Minute)
	if got := kid(t, sign(t, r, keys.ES256)); got == first {
		t.Errorf("the old key signs on")
	}
}

func TestRotateByHand(t *testing.T) {
	f := newFixture(t)
	r := f.open(t)
	first := kid(t, sign(t, r, keys.ES256))
	if err := r.Rotate(t.Context(), keys.ES256); err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(t.Context(), keys.ES256); err != nil { // again: nothing more
		t.Fatal(err)
	}
	if n := len(r.List()); n != 3 {
		t.Errorf("%d keys, 3 expected", n)
	}
	if got := kid(t, sign(t, r, keys.ES256)); got != first {
		t.Error("the successor signs before anybody has fetched it")
	}
	f.clock.advance(15 * time.Minute)
	if got := kid(t, sign(t, r, keys.ES256)); got == first {
		t.Error("the successor does not take over")
	}
	if err := r.Rotate(t.Context(), "HS256"); err == nil {
		t.Error("HS256 was rotated")
	}
}

func TestRevoke(t *testing.T) {
	f := newFixture(t)
	r, other := f.open(t), f.open(t)
	token := sign(t, r, keys.ES256)
	leaked := kid(t, token)
	if err := r.Revoke(t.Context(), leaked, "leaked"); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(t.Context(), leaked, "leaked"); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("a second time: %v", err)
	}
	if err := other.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]*keys.Ring{"here": r, "elsewhere": other, "after a restart": f.open(t)} {
		if bytes.Contains(ring.JWKS().Body, []byte(leaked)) {
			t.Errorf("%s: the key is published", name)
		}
		if _, err := ring.Verify(token, "at+jwt"); !errors.Is(err, keys.ErrToken) {
			t.Errorf("%s: its token verifies", name)
		}
		if got := kid(t, sign(t, ring, keys.ES256)); got == leaked {
			t.Errorf("%s: it signs", name)
		}
	}
	stored, _ := f.store.KeyRing(t.Context())
	for _, k := range stored.Keys {
		if k.ID == leaked && k.Sealed != nil {
			t.Error("the private key of a revoked key is kept")
		}
	}
	// The next key, if there is one, takes over.
	if err := r.Rotate(t.Context(), keys.EdDSA); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(t.Context(), kid(t, sign(t, r, keys.EdDSA)), "x"); err != nil {
		t.Fatal(err)
	}
	if n := len(r.List()); n != 4 { // two that are revoked, and their successors
		t.Errorf("%d keys: %+v", n, r.List())
	}
	sign(t, r, keys.EdDSA)
}

func TestManyProcessesMakeOneRing(t *testing.T) {
	f := newFixture(t)
	rings := make([]*keys.Ring, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() { rings[i] = f.open(t) })
	}
	wg.Wait()
	for _, r := range rings {
		if r.Secret("x") != rings[0].Secret("x") || r.JWKS().ETag != rings[0].JWKS().ETag {
			t.Fatal("there are several rings")
		}
	}
	f.clock.advance(89 * 24 * time.Hour)
	for i := range rings {
		wg.Go(func() { rings[i] = f.open(t) })
	}
	wg.Wait()
	if n := len(f.open(t).List()); n != 4 {
		t.Errorf("%d keys after everybody kept the schedule, 4 expected", n)
	}
}

func TestMasterKey(t *testing.T) {
	f := newFixture(t)
	r := f.open(t)
	before := f.store.ring
	f.master, _ = master(t)
	if _, err := keys.Open(t.Context(), keys.Config{Store: f.store, Master: f.master}); !errors.Is(err, keys.ErrMasterKey) {
		t.Errorf("another master key: %v", err)
	}
	if f.store.ring.Version != before.Version {
		t.Error("the ring was changed")
	}

	// Replaced: the old one opens, reseal, and the new one is enough.
	_, text := master(t)
	both, err := keys.ParseMaster([]byte(text), []byte(f.text))
	if err != nil {
		t.Fatal(err)
	}
	f.master = both
	again := f.open(t)
	if again.Secret("x") != r.Secret("x") {
		t.Error("the root secret changed")
	}
	if err := again.Reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.master, err = keys.ParseMaster([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if f.open(t).Secret("x") != r.Secret("x") {
		t.Error("after resealing the root secret changed")
	}

	// Sealed values can't be altered or exchanged.
	f.store.ring.Keys[0].Sealed, f.store.ring.Keys[1].Sealed = f.store.ring.Keys[1].Sealed, f.store.ring.Keys[0].Sealed
	if _, err := keys.Open(t.Context(), keys.Config{Store: f.store, Master: f.master, Now: f.clock.Now}); !errors.Is(err, keys.ErrMasterKey) {
		t.Errorf("exchanged keys: %v", err)
	}
}

func TestSeal(t *testing.T) {
	f := newFixture(t)
	r := f.open(t)
	sealed := r.Seal("a", []byte("plain"))
	if plain, err := f.open(t).Unseal("a", sealed); err != nil || string(plain) != "plain" {
		t.Errorf("got %q, %v", plain, err)
	}
	for name, c := range map[string][2]string{"purpose": {"b", sealed}, "altered": {"a", "A" + sealed[1:]}, "cut": {"a", sealed[:10]}, "empty": {"a", ""}, "base64": {"a", "!"}} {
		if _, err := r.Unseal(c[0], c[1]); !errors.Is(err, keys.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.Seal("a", []byte("plain")) == sealed {
		t.Error("the nonce is not random")
	}
}

func TestStoreOutOfReach(t *testing.T) {
	f := newFixture(t)
	r := f.open(t)
	f.store.err = storage.ErrUnavailable
	if err := r.Reload(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	sign(t, r, keys.ES256)
	if _, err := keys.Open(t.Context(), keys.Config{Store: f.store, Master: f.master}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a start without the store: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	fx := newFixture(f)
	r := fx.open(f)
	good, err := r.Sign(keys.ES256, "at+jwt", []byte(`{}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20] + "\n" + good[20:])
	f.Add(good + "\r")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := r.Verify(token, "at+jwt"); err == nil && token != good {
			t.Errorf("%q passed", token)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	r := newFixture(f).open(f)
	good := r.Seal("a", []byte("x"))
	f.Add(good)
	f.Add(good + "\n")
	f.Fuzz(func(t *testing.T, sealed string) {
		if _, err := r.Unseal("a", sealed); err == nil && sealed != good {
			t.Errorf("%q was opened", sealed)
		}
		if _, err := r.Unseal("b", sealed); err == nil {
			t.Errorf("%q was opened for another purpose", sealed)
		}
	})
}

func FuzzParseMaster(f *testing.F) {
	_, text := master(f)
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, text []byte) { keys.ParseMaster(text) })
}

func BenchmarkSign(b *testing.B) {
	r := newFixture(b).open(b)
	claims := []byte(`{"iss":"https://login.example.com","sub":"alice","aud":"https://api.example.com","exp":1,"iat":1,"jti":"x","client_id":"spa","scope":"openid"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Sign(keys.ES256, "at+jwt", claims); err != nil {
			b.Fatal(err)
		}
	}
}
