package verify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of fetching.
const (
	refetchEvery    = 10 * time.Second // for unknown keys, at most
	shortestRefresh = time.Minute
	longestRefresh  = 15 * time.Minute
	firstRetry      = time.Second
	longestRetry    = 30 * time.Second
	maxDocument     = 256 << 10
	maxKeys         = 100
)

// key is a public key of the issuer.
type key struct {
	id        string
	algorithm string
	public    crypto.PublicKey
}

// keys is the issuer's key set as it was last fetched: immutable.
type keys struct {
	byID    map[string]*key
	fetched time.Time
	// refresh is how long the issuer lets it be kept, within our bounds.
	refresh time.Duration
}

// keySet keeps the issuer's keys.
type keySet struct {
	config *Config
	now    atomic.Pointer[keys]

	// fetching lets one fetch run at a time; it guards the fields below.
	fetching sync.Mutex
	uri      string    // jwks_uri, once known
	tried    time.Time // the last fetch for an unknown key
}

func newKeySet(c *Config) *keySet { return &keySet{config: c} }

// current returns the keys, if there are any that are not too old.
func (s *keySet) current() (*keys, error) {
	k := s.now.Load()
	if k == nil {
		return nil, errors.New("no keys were fetched yet")
	}
	if age := s.config.Now().Sub(k.fetched); age > s.config.MaxStale {
		return nil, fmt.Errorf("the keys are %s old and the issuer can't be reached", age.Round(time.Second))
	}
	return k, nil
}

// find looks for a key that is not in the set at hand: it may be new. Tokens
// with made-up keys cause one fetch in ten seconds together.
func (s *keySet) find(ctx context.Context, id string) (*key, error) {
	s.fetching.Lock()
	if k := s.now.Load().byID[id]; k != nil { // while we waited
		s.fetching.Unlock()
		return k, nil
	}
	now := s.config.Now()
	if now.Sub(s.tried) < refetchEvery && !s.tried.After(now) {
		s.fetching.Unlock()
		return nil, refuse("the key %.100q is not the issuer's", id)
	}
	s.tried = now
	// There is one fetch in ten seconds for everybody: who asked for it first
	// can't call it off by going away.
	fetching, cancel := context.WithTimeout(context.WithoutCancel(ctx), findFor)
	err := s.fetch(fetching)
	cancel()
	s.fetching.Unlock()
	if err != nil {
		s.config.Log.Warn("the issuer's keys can't be fetched", "issuer", s.config.Issuer, "error", err)
	}
	if k := s.now.Load().byID[id]; k != nil {
		return k, nil
	}
	return nil, refuse("the key %.100q is not the issuer's", id)
}

// findFor bounds a fetch that a request waits for.
const findFor = 5 * time.Second

// refresh fetches the keys.
func (s *keySet) refresh(ctx context.Context) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	return s.fetch(ctx)
}

// run refreshes the keys until ctx ends.
func (s *keySet) run(ctx context.Context) {
	retry := firstRetry
	failing := s.now.Load() == nil
	for {
		wait := retry
		if k := s.now.Load(); k != nil && !failing {
			wait = k.refresh
		}
		// Not all APIs at the same moment.
		timer := time.NewTimer(wait*9/10 + rand.N(wait/5+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := s.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			s.config.Log.Error("the issuer's keys can't be fetched; going on with the keys at hand", "issuer", s.config.Issuer, "error", err)
		case err == nil && failing:
			s.config.Log.Info("the issuer's keys were fetched", "issuer", s.config.Issuer)
		}
		if failing = err != nil; failing {
			retry = min(retry*2, longestRetry)
		} else {
			retry = firstRetry
		}
	}
}

// fetch gets the metadata, once, and the key set. fetching is held.
func (s *keySet) fetch(ctx context.Context) error {
	if s.uri == "" {
		m, err := s.discover(ctx)
		if err != nil {
			return err
		}
		s.uri = m.JWKS
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	h, err := s.get(ctx, s.uri, &set)
	if err != nil {
		return err
	}
	fresh, err := s.read(set.Keys)
	if err != nil {
		return fmt.Errorf("%s: %w", s.uri, err)
	}
	s.now.Store(&keys{byID: fresh, fetched: s.config.Now(), refresh: maxAge(h)})
	return nil
}

// issuerMetadata is what is used of the issuer's metadata (RFC 8414 §2).
type issuerMetadata struct {
	Issuer        string `json:"issuer"`
	JWKS          string `json:"jwks_uri"`
	Feed          string `json:"solegate_feed_endpoint"` // feed.MetadataName
	Introspection string `json:"introspection_endpoint"`
}

// discover fetches the issuer's metadata (RFC 8414 §3), which must name the
// very issuer that was asked for (§3.3). The key set's address in it can be
// used.
func (s *keySet) discover(ctx context.Context) (*issuerMetadata, error) {
	address := s.config.Issuer + "/.well-known/oauth-authorization-server"
	if scheme, rest, ok := strings.Cut(s.config.Issuer, "://"); ok {
		if host, path, ok := strings.Cut(rest, "/"); ok {
			address = scheme + "://" + host + "/.well-known/oauth-authorization-server/" + path
		}
	}
	var m issuerMetadata
	if _, err := s.get(ctx, address, &m); err != nil {
		return nil, err
	}
	if m.Issuer != s.config.Issuer {
		return nil, fmt.Errorf("%s says that the issuer is %.200q, %q is expected", address, m.Issuer, s.config.Issuer)
	}
	c := Config{Issuer: strings.TrimRight(m.JWKS, "/"), Audience: "-", Development: s.config.Development}
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("%s: its jwks_uri %.200q is no https URL", address, m.JWKS)
	}
	return &m, nil
}

func (s *keySet) get(ctx context.Context, address string, into any) (http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := s.config.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d, 200 is expected", address, resp.StatusCode)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || !strings.HasSuffix(media, "json") {
		return nil, fmt.Errorf("%s answered with %.100q, JSON is expected", address, resp.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxDocument {
		return nil, fmt.Errorf("%s answered with more than %d bytes", address, maxDocument)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return resp.Header, nil
}

// read takes the signing keys out of a key set. Keys that are for something
// else, or that this package can't use, are left out, as RFC 7517 §5 asks; a
// set without any usable key is an error, and the keys at hand stay.
func (s *keySet) read(list []json.RawMessage) (map[string]*key, error) {
	if len(list) > maxKeys {
		return nil, fmt.Errorf("there are %d keys, at most %d are expected", len(list), maxKeys)
	}
	old := s.now.Load()
	fresh := map[string]*key{}
	for _, raw := range list {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil || !jwk.Valid() || !jwk.IsPublic() || jwk.KeyID == "" || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		algorithm := ""
		switch public := jwk.Key.(type) {
		case *ecdsa.PublicKey:
			if public.Curve == elliptic.P256() {
				algorithm = "ES256"
			}
		case ed25519.PublicKey:
			algorithm = "EdDSA"
		case *rsa.PublicKey:
			// An RSA key serves one algorithm, the one that it names.
			if public.N.BitLen() >= 2048 && (jwk.Algorithm == "RS256" || jwk.Algorithm == "PS256") {
				algorithm = jwk.Algorithm
			}
		}
		if algorithm == "" || jwk.Algorithm != "" && jwk.Algorithm != algorithm {
			continue
		}
		if fresh[jwk.KeyID] != nil {
			return nil, fmt.Errorf("the key %.100q is there twice", jwk.KeyID)
		}
		k := &key{id: jwk.KeyID, algorithm: algorithm, public: jwk.Key}
		if old != nil {
			// The same key stays the same pointer: what it signed and was
			// seen stays seen.
			if known := old.byID[k.id]; known != nil && known.algorithm == algorithm && known.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(k.public) {
				k = known
			}
		}
		fresh[k.id] = k
	}
	if len(fresh) == 0 {
		return nil, errors.New("there is no key to check signatures with")
	}
	return fresh, nil
}

// maxAge is how long the answer may be kept, within our bounds.
func maxAge(h http.Header) time.Duration {
	age := 5 * time.Minute
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(strings.ToLower(directive)), "max-age="); ok {
			if n, err := strconv.ParseUint(text, 10, 31); err == nil {
				age = time.Duration(n) * time.Second
			}
		}
	}
	return min(max(age, shortestRefresh), longestRefresh)
}
