package storage

import (
	"context"
	"time"

	"github.com/solegate/solegate/clients"
)

// Replays remembers what may be used once.
type Replays interface {
	// Once remembers key until the given time: exactly one of any number of
	// callers gets nil, every other one, until then, ErrExists. Later it may
	// be forgotten. What it remembers may be lost in a crash or a failover,
	// like a count: whatever it protects lives for a minute or so.
	Once(ctx context.Context, key [32]byte, now, until time.Time) error
}

// PushedRequest is a pushed authorization request (RFC 9126) that waits for
// its browser.
type PushedRequest struct {
	// ID is the hash of the random part of its request_uri.
	ID     Hash       `json:"-"`
	Client clients.ID `json:"client"`
	// Parameters is the request, form-encoded.
	Parameters string `json:"parameters"`
	// JKT is the thumbprint of the key that its DPoP proof or dpop_jkt named,
	// or empty (RFC 9449 §10.1).
	JKT     string    `json:"jkt,omitempty"`
	Expires time.Time `json:"expires"`
}

// PushedRequests keeps pushed authorization requests until they expire. That
// one is used once is not their business but that of [Replays]: the browser
// may come again until its login has ended.
type PushedRequests interface {
	// PushRequest stores p. ErrExists when the ID is taken.
	PushRequest(ctx context.Context, p PushedRequest, now time.Time) error
	// PushedRequest returns ErrNotFound when there is none. It may return one
	// that has expired: the caller checks.
	PushedRequest(ctx context.Context, id Hash) (PushedRequest, error)
}
