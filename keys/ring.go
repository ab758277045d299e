// Package keys is the server's key ring: it generates signing keys, seals them
// at rest, rotates them by schedule and by hand, signs with them and publishes
// their public halves as a JSON Web Key Set (RFC 7517).
//
// [Open] a ring once, let [Ring.Run] keep its schedule, and sign with
// [Ring.Sign]. Signing takes no lock and does no I/O.
//
// # The life of a key
//
// A key is published before it signs, long enough for every verifier to have
// fetched it. It signs until its successor does. It stays published until the
// last token that it signed has expired, then it is deleted. A key that leaked
// is withdrawn at once with [Ring.Revoke].
//
// Several processes may share one store: each change is a compare-and-swap,
// and each process notices the others' within a few seconds.
//
// # Secrets
//
// Private keys and the ring's root secret are stored sealed with the [Master]
// key. Everything symmetric derives from the root secret ([Ring.Secret],
// [Ring.Seal]), so replacing the master key ends no session and no token.
package keys

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/solegate/solegate/storage"
)

// Algorithm is a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
type Algorithm string

// The algorithms that a ring can hold.
const (
	ES256 Algorithm = "ES256"
	RS256 Algorithm = "RS256"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA"
)

// Algorithms are all of them.
func Algorithms() []Algorithm { return []Algorithm{ES256, RS256, PS256, EdDSA} }

// Config is what a [Ring] is made of. Store and Master are required.
type Config struct {
	Store  storage.Keys
	Master Master

	// Algorithms are those to hold keys for; none means all.
	Algorithms []Algorithm

	// RotateEvery is how long a key signs: 90 days if zero, at least 1 hour.
	RotateEvery time.Duration

	// PublishAhead is how long a key is published before it signs: 24 hours
	// if zero, at most half of RotateEvery. Verifiers may cache the set for
	// that long.
	PublishAhead time.Duration

	// TokenLife is the longest life of a token: 1 hour if zero. A retired
	// key stays published for that long, and Skew.
	TokenLife time.Duration

	// Now and Rand are the clock and the source of randomness; nil means the
	// real ones. Nonces and signatures always take the real one.
	Now  func() time.Time
	Rand io.Reader
	// Log takes what happened; nil discards it.
	Log *slog.Logger
}

// Skew is how far the clocks of servers and verifiers may be apart.
const Skew = 5 * time.Minute

// Ring is a key ring. It is safe for concurrent use.
type Ring struct {
	config Config

	// snap is what every reader uses, replaced whole.
	snap atomic.Pointer[snapshot]

	// change lets one change of the ring be made at a time in this process;
	// the store's compare-and-swap orders it among processes.
	change sync.Mutex

	// sealers are the AEADs of Seal and Unseal by purpose.
	sealers sync.Map
}

// snapshot is the ring as it was last read: immutable.
type snapshot struct {
	stored storage.KeyRing
	root   []byte
	keys   []*key // in the order of the record
	byID   map[string]*key
	jwks   Document
}

// Open reads the ring from the store, or makes the first one, whose keys sign
// at once. The error is ErrMasterKey if the ring can't be opened: nothing is
// changed then.
func Open(ctx context.Context, c Config) (*Ring, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	r := &Ring{config: c}
	if err := r.Reload(ctx); errors.Is(err, storage.ErrNotFound) {
		if err := r.create(ctx); err != nil {
			return nil, fmt.Errorf("make the first keys: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the key ring: %w", err)
	}
	return r, r.keepSchedule(ctx)
}

func (c *Config) complete() error {
	if c.Store == nil || c.Master.current.aead == nil {
		return errors.New("keys: Store and Master are required")
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = Algorithms()
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return fmt.Errorf("keys: algorithm %q: one of %v expected", a, Algorithms())
		}
	}
	if c.RotateEvery == 0 {
		c.RotateEvery = 90 * 24 * time.Hour
	}
	if c.PublishAhead == 0 {
		c.PublishAhead = min(24*time.Hour, c.RotateEvery/2)
	}
	if c.TokenLife == 0 {
		c.TokenLife = time.Hour
	}
	if c.RotateEvery < time.Hour {
		return fmt.Errorf("keys: rotate_every is %s: at least 1h expected", c.RotateEvery)
	}
	if c.PublishAhead < 10*time.Minute || c.PublishAhead > c.RotateEvery/2 {
		return fmt.Errorf("keys: publish_ahead is %s: between 10m and half of rotate_every (%s) expected", c.PublishAhead, c.RotateEvery/2)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// create stores the first ring. If another process was first, its ring it is.
func (r *Ring) create(ctx context.Context) error {
	root := make([]byte, 32)
	if _, err := io.ReadFull(r.config.Rand, root); err != nil {
		return err
	}
	now := r.config.Now()
	ring := storage.KeyRing{Root: r.config.Master.Seal(rootPurpose, root)}
	for _, a := range r.config.Algorithms {
		k, err := r.generate(a, now, now)
		if err != nil {
			return err
		}
		ring.Keys = append(ring.Keys, k)
	}
	if err := r.config.Store.PutKeyRing(ctx, ring); err != nil && !errors.Is(err, storage.ErrConflict) {
		return err
	}
	return r.Reload(ctx)
}

const rootPurpose = "root secret"

// Reload reads the ring from the store.
func (r *Ring) Reload(ctx context.Context) error {
	stored, err := r.config.Store.KeyRing(ctx)
	if err != nil {
		return err
	}
	if old := r.snap.Load(); old != nil && old.stored.Version == stored.Version {
		return nil
	}
	s, err := r.open(stored)
	if err != nil {
		return err
	}
	r.snap.Store(s)
	return nil
}

// open unseals a stored ring.
func (r *Ring) open(stored storage.KeyRing) (*snapshot, error) {
	root, err := r.config.Master.Open(rootPurpose, stored.Root)
	if err != nil {
		return nil, err
	}
	if len(root) != 32 {
		return nil, fmt.Errorf("the key ring's root secret has %d bytes, 32 expected: restore the store from a backup", len(root))
	}
	s := &snapshot{stored: stored, root: root, byID: map[string]*key{}}
	old := r.snap.Load()
	for _, k := range stored.Keys {
		if !k.RevokedAt.IsZero() {
			continue
		}
		// Keys never change but for their dates: what is open stays open.
		if old != nil {
			if known := old.byID[k.ID]; known != nil {
				fresh := *known
				fresh.Key = k
				s.add(&fresh)
				continue
			}
		}
		opened, err := openKey(r.config.Master, k)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		s.add(opened)
	}
	s.jwks = publish(s.keys)
	return s, nil
}

func (s *snapshot) add(k *key) {
	s.keys = append(s.keys, k)
	s.byID[k.ID] = k
}

// active returns the key that signs with a at now: the latest that is due. If
// none is, by a clock that is behind the one that made the key, it is the
// first that will be.
func (s *snapshot) active(a Algorithm, now time.Time) *key {
	var best, first *key
	for _, k := range s.keys {
		switch {
		case k.algorithm != a:
		case k.ActiveAt.After(now):
			if first == nil || k.ActiveAt.Before(first.ActiveAt) {
				first = k
			}
		case best == nil || k.ActiveAt.After(best.ActiveAt):
			best = k
		}
	}
	if best == nil {
		return first
	}
	return best
}

// Secret returns the 32 bytes that derive from the root secret for a purpose
// (HKDF-SHA-256, RFC 5869). It is the same in every process, for ever.
func (r *Ring) Secret(purpose string) [32]byte {
	out, err := hkdf.Key(sha256.New, r.snap.Load().root, nil, "solegate: "+purpose, 32)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return [32]byte(out)
}

// Seal encrypts what a browser or a client shall keep for us, in base64url. It
// opens for the same purpose only.
//
// Whoever comes can have as much sealed as they like, by keys that never
// change: so the nonces are those of XChaCha20-Poly1305, which may be drawn at
// random without end. AES-GCM's 12 bytes may not.
func (r *Ring) Seal(purpose string, plain []byte) string {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(r.sealer(purpose).Seal(nonce, nonce, plain, []byte(purpose)))
}

// ErrSealed says that a text was not made by Seal for that purpose.
var ErrSealed = errors.New("not sealed by this server for this purpose")

// Unseal decrypts what Seal made. Any failure is ErrSealed.
func (r *Ring) Unseal(purpose, sealed string) ([]byte, error) {
	raw, err := decode(sealed)
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return nil, ErrSealed
	}
	plain, err := r.sealer(purpose).Open(nil, raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:], []byte(purpose))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

func (r *Ring) sealer(purpose string) cipher.AEAD {
	if a, ok := r.sealers.Load(purpose); ok {
		return a.(cipher.AEAD)
	}
	secret := r.Secret("seal: " + purpose)
	aead, err := chacha20poly1305.NewX(secret[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	a, _ := r.sealers.LoadOrStore(purpose, aead)
	return a.(cipher.AEAD)
}

// Info says of a key what an operator may see.
type Info struct {
	ID        string    `json:"kid"`
	Algorithm Algorithm `json:"alg"`
	// State is next (published, not yet signing), active, retired (published
	// until its last token has expired) or revoked.
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	ActiveAt  time.Time `json:"active_at"`
	RetiredAt time.Time `json:"retired_at,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// List says which keys there are, the revoked ones that are not yet forgotten
// among them.
func (r *Ring) List() []Info {
	s, now := r.snap.Load(), r.config.Now()
	var list []Info
	for _, k := range s.stored.Keys {
		i := Info{ID: k.ID, Algorithm: Algorithm(k.Algorithm), CreatedAt: k.CreatedAt, ActiveAt: k.ActiveAt, RetiredAt: k.RetiredAt, RevokedAt: k.RevokedAt}
		active := s.active(i.Algorithm, now)
		switch {
		case !k.RevokedAt.IsZero():
			i.State = "revoked"
		case active != nil && active.ID == k.ID:
			i.State = "active"
		case k.ActiveAt.After(now):
			i.State = "next"
		default:
			i.State = "retired"
		}
		list = append(list, i)
	}
	return list
}
