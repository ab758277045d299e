// Package backchannel tells clients that a session has ended: it makes logout
// tokens and delivers them (OpenID Connect Back-Channel Logout 1.0).
//
// A [Queue] is given to whoever ends things: it writes down, before the end is
// written, who will have to be told. A [Sender] delivers what is in the queue,
// on every server; any number of them share one store.
//
// # What is promised
//
// A client is told at least once of every end of a session in which a code of
// its was redeemed, for as long as its grant is kept, and whatever process dies
// in between. It is tried for a day. A receiver may be told twice: of the same
// session, by another token.
//
// Nothing is sent while the session is still good, to an address that is not
// public (unless the operator allows its network), or over plain HTTP.
package backchannel

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// Store is what this package needs of [storage.Store].
type Store interface {
	storage.Clients
	storage.Sessions
	storage.Grants
	storage.Logouts
}

// Config is what a [Sender] is made of. All but Development, Networks and Rand
// is required.
type Config struct {
	// Issuer is the iss of logout tokens.
	Issuer string
	// Development allows receivers on loopback, there over http, too.
	Development bool
	// Networks are where receivers may be although they are not public.
	Networks []netip.Prefix

	Store Store
	// Queue is where this process adds: it wakes the Sender.
	Queue *Queue
	// Sign signs claims, as [keys.Ring.Sign] does.
	Sign  func(a keys.Algorithm, typ string, claims []byte) (string, error)
	Audit *audit.Log
	Log   *slog.Logger
	Now   func() time.Time
	Rand  io.Reader // nil means the real one
}

// How the queue is worked off.
const (
	// tryFor is how long a receiver is tried.
	tryFor = 24 * time.Hour
	// attemptFor bounds one attempt, from the look-up of the receiver's name
	// to the end of its answer.
	attemptFor = 5 * time.Second
	// lease is how long a claim holds: no other server takes it meanwhile. It
	// is far longer than an attempt, because clocks differ.
	lease = time.Minute
	// pollEvery is how long what another process adds, such as the command
	// line, waits at most.
	pollEvery = 3 * time.Second
	// concurrent is how many attempts run at once in this process.
	concurrent = 16
	// restFor is how long a receiver that could not be reached is left alone.
	// So one that hangs can't take up every attempt.
	restFor = 5 * time.Second
)

// Sender delivers what is in the queue. It is safe for concurrent use.
type Sender struct {
	Config
	// post sends a logout token to a receiver and returns the status of its
	// answer. Tests put another one here.
	post func(ctx context.Context, uri, token string) (int, error)

	mu      sync.Mutex
	resting map[string]time.Time // until when, by receiver; under mu
}

// NewSender returns a Sender. It does nothing until [Sender.Run].
func NewSender(c Config) (*Sender, error) {
	if c.Issuer == "" || c.Store == nil || c.Queue == nil || c.Sign == nil || c.Audit == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("backchannel: a required field of Config is missing")
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return &Sender{Config: c, resting: map[string]time.Time{}, post: newPoster(c.Development, c.Networks, nil, nil).post}, nil
}
