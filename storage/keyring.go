package storage

import (
	"context"
	"time"
)

// KeyRing is the set of signing keys with the server's root secret. One
// record: it is read and replaced whole.
type KeyRing struct {
	// Root is the sealed random secret that symmetric keys derive from.
	Root []byte `json:"root"`
	Keys []Key  `json:"keys"`
	// Version counts the writes, for compare-and-swap; zero: no ring yet.
	Version uint64 `json:"-"`
}

// Key is a signing key in its whole life: published, active, retired, gone.
type Key struct {
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	// Sealed is the private key, sealed with the master key.
	Sealed []byte `json:"sealed"`
	// Public is the public JSON Web Key (RFC 7517).
	Public []byte `json:"public"`

	CreatedAt time.Time `json:"created_at"` // published from here on
	ActiveAt  time.Time `json:"active_at"`  // signs from here on
	// RetiredAt is when the successor took over; the key is still published
	// until the last token that it signed has expired.
	RetiredAt time.Time `json:"retired_at,omitzero"`
	// RevokedAt withdraws the key at once: a leak.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// Keys keeps the key ring.
type Keys interface {
	// KeyRing returns ErrNotFound when no ring was ever stored.
	KeyRing(ctx context.Context) (KeyRing, error)
	// PutKeyRing replaces the ring whose Version is r.Version (zero: there
	// is none yet), and leaves r.Version+1. Otherwise ErrConflict.
	PutKeyRing(ctx context.Context, r KeyRing) error
}
