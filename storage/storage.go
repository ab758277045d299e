// Package storage says what Solegate keeps and what every place to keep it
// promises: records, the operations on them, and which of those are atomic.
//
// A backend implements [Store] and passes the one suite in package
// storagetest. The operations that carry the server's security are named for
// what they mean ([Grants.Redeem], [Grants.Rotate]) and are atomic: of any
// number of concurrent callers, in any number of processes, exactly one
// outcome happens.
//
// # Promises to every caller
//
// What was answered without an error is durable. Time comes in as an argument:
// a store never reads the clock. A record that is past its expiry may still be
// returned; callers check. Nothing secret is stored in the clear: a session's
// secret is stored as a hash, a password as Argon2id, private keys sealed.
// Codes and refresh tokens are not stored at all, not even as hashes: they are
// message authentication codes over a grant's [Grant.Salt], computed by the
// provider with a key that is sealed.
//
// # How a write can end
//
// Done (nil), refused (one of the errors below that names why; nothing
// changed), failed ([ErrUnavailable]; nothing changed), or unknown
// ([ErrUnknown]; it may have happened, or may yet). After ErrUnknown the
// caller reads again before it says anything about the outcome to anyone.
package storage

import (
	"context"
	"errors"
	"time"

	"github.com/solegate/solegate/clients"
)

// Errors that a store returns, wrapped or not; test with [errors.Is]. Any
// other error is a defect or a broken store and is treated as ErrUnavailable.
var (
	// ErrNotFound: no such record.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record with that identifier or unique name exists.
	ErrExists = errors.New("already exists")
	// ErrConflict: the record changed since the caller read it (its Version
	// differs). Read again, decide again.
	ErrConflict = errors.New("changed by someone else since it was read")
	// ErrExpired: the code or the refresh token is past its life.
	ErrExpired = errors.New("expired")
	// ErrReused: a code or refresh token was used a second time. The grant is
	// revoked, by this call or before.
	ErrReused = errors.New("used before")
	// ErrRevoked: the grant was revoked.
	ErrRevoked = errors.New("revoked")
	// ErrTooSoon: the user is slowed down and has had a refresh already.
	ErrTooSoon = errors.New("too soon after the one before")
	// ErrUnavailable: the store can't do it now and nothing changed.
	ErrUnavailable = errors.New("storage unavailable")
	// ErrUnknown: the outcome of a write is not known.
	ErrUnknown = errors.New("outcome of the write unknown")
)

// UserID identifies an account for ever; it is the sub of tokens. It is
// random, never reused and unrelated to the user name.
type UserID string

// SessionID identifies a login session; it is the sid of tokens. It is not
// what the browser proves itself with: that is the secret beside it. It begins
// with its user's: see [NewSessionID].
type SessionID string

// GrantID identifies a grant. Access tokens name it, so it is no secret. It
// begins with its session's: see [NewGrantID].
type GrantID string

// Hash is the SHA-256 of a random secret. The zero Hash matches nothing.
type Hash [32]byte

// Session is one login of one user in one browser.
type Session struct {
	ID SessionID `json:"id"`
	// Secret is the hash of what the browser's cookie holds beside the ID.
	Secret Hash   `json:"secret"`
	User   UserID `json:"user"`
	Epoch  uint64 `json:"epoch,omitempty"` // the user's, as it was read before the login

	AuthTime time.Time `json:"auth_time"`     // when the person last proved who they are
	ACR      string    `json:"acr,omitempty"` // OpenID Connect Core §2
	AMR      []string  `json:"amr,omitempty"` // RFC 8176

	CreatedAt   time.Time `json:"created_at"`
	LastSeen    time.Time `json:"last_seen"`
	IdleExpires time.Time `json:"idle_expires"` // the cookie alone is worth nothing after it
	Expires     time.Time `json:"expires"`      // nothing of the session outlives it

	// EndedAt is set when the session was ended: every grant of it is dead.
	EndedAt time.Time `json:"ended_at,omitzero"`

	Address   string `json:"address,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// Grant is one login of one user at one client: an authorization code, then
// the family of refresh tokens that came of it. One record, of a size that
// does not grow with use.
type Grant struct {
	ID      GrantID    `json:"id"`
	Client  clients.ID `json:"client"`
	User    UserID     `json:"user"`
	Session SessionID  `json:"session"`
	Epoch   uint64     `json:"epoch,omitempty"` // the client's, when the grant was made

	Scope []string `json:"scope"`
	// Resource are the audiences granted (RFC 8707); the first is the default.
	Resource []string `json:"resource"`

	AuthTime time.Time `json:"auth_time"`
	ACR      string    `json:"acr,omitempty"`
	AMR      []string  `json:"amr,omitempty"`

	// JKT is the thumbprint of the DPoP key that the code, and then the
	// family, is bound to (RFC 9449 §10 and §5), or empty. A store refuses one
	// that is not the base64url of 32 bytes, some of them not zero.
	JKT string `json:"jkt,omitempty"`

	// Salt makes the code and the refresh tokens of this grant. It is random
	// and worth nothing without the server's sealed token key.
	Salt [16]byte `json:"salt"`

	// Status is the grant's place in a Token Status List, or none. All tokens
	// of the grant have it: they die together.
	Status Place `json:"status,omitzero"`

	// The code: spent once, before CodeExpires.
	RedirectURI   clients.RedirectURI `json:"redirect_uri"`
	CodeChallenge string              `json:"code_challenge"`
	Nonce         string              `json:"nonce,omitempty"`
	CodeExpires   time.Time           `json:"code_expires"`
	RedeemedAt    time.Time           `json:"redeemed_at,omitzero"`

	// The family: Generation counts the rotations; only the refresh token of
	// the current generation is live, and for the grace window after
	// RotatedAt the one before it is answered with the same successor.
	Generation  uint64    `json:"generation"`
	RotatedAt   time.Time `json:"rotated_at,omitzero"`
	IdleExpires time.Time `json:"idle_expires,omitzero"`
	// Expires ends the family, however often it is used (RFC 10017).
	Expires time.Time `json:"expires"`

	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// RevokedFor is the reason, for the operator and the audit log.
	RevokedFor string `json:"revoked_for,omitempty"`
}

// Standing is all that decides whether a grant is good now, read in one trip.
// Session and User are zero when they are gone: the grant is then dead.
type Standing struct {
	Grant   Grant
	Session Session
	User    User
	// ClientVersion is the Version of the client that was named, zero when
	// that is gone: whoever knows it by that version knows it as it is now.
	ClientVersion uint64
}

// Store is everything. All methods are safe for concurrent use, also from
// several processes on the same data.
type Store interface {
	Clients
	ResourceServers
	Users
	Sessions
	Grants
	Keys
	Counters
	Replays
	Logouts
	Events
	Cases
	Audit

	// Ready answers nil when the store can read and write now.
	Ready(ctx context.Context) error

	// Sweep removes at most limit records that nothing can need at now:
	// grants past Expires (and codes never redeemed past CodeExpires by an
	// hour), sessions past Expires, counters of past windows, what Once
	// remembers, logouts, events and cases past their time, lines at the begin of
	// the audit log as [Audit] says. It returns how many; fewer than limit means
	// that nothing is left. The space is reused. An engine that removes records
	// when their time has come, by a clock of its own, leaves it nothing to do.
	Sweep(ctx context.Context, now time.Time, limit int) (int, error)

	// Check reads everything that is stored and calls problem, with a line of
	// text, for each thing that is not as this store leaves it: damage, or
	// records that don't fit together. It may be called while others write.
	Check(ctx context.Context, problem func(string)) error

	Close() error
}

// Page asks for a part of a listing: at most Limit (1 to 1000) records whose
// key is after After in byte order. The empty After starts at the beginning.
type Page struct {
	After string
	Limit int
}

// Clients keeps the registered clients, by ID.
type Clients interface {
	// Client returns ErrNotFound when there is none.
	Client(ctx context.Context, id clients.ID) (clients.Client, error)
	// CreateClient returns ErrExists when the ID is taken.
	CreateClient(ctx context.Context, c clients.Client) error
	// UpdateClient replaces the client whose Version is c.Version; otherwise
	// ErrConflict, or ErrNotFound.
	UpdateClient(ctx context.Context, c clients.Client) error
	// RemoveClient returns ErrNotFound when there is none. Grants of it stay
	// until they expire, and are dead because their client is gone.
	RemoveClient(ctx context.Context, id clients.ID) error
	// ListClients is ordered by ID; Page.After is an ID.
	ListClients(ctx context.Context, p Page) ([]clients.Client, error)
}

// ResourceServers keeps the APIs that have a credential, by ID. The errors are
// those of Clients.
type ResourceServers interface {
	ResourceServer(ctx context.Context, id clients.ID) (clients.ResourceServer, error)
	CreateResourceServer(ctx context.Context, rs clients.ResourceServer) error
	UpdateResourceServer(ctx context.Context, rs clients.ResourceServer) error
	RemoveResourceServer(ctx context.Context, id clients.ID) error
	ListResourceServers(ctx context.Context, p Page) ([]clients.ResourceServer, error)
}

// Sessions keeps the login sessions, by ID.
type Sessions interface {
	// CreateSession stores a session whose ID is of its User. ErrExists when
	// the ID is taken.
	CreateSession(ctx context.Context, s Session) error
	// SessionUser reads a session and its user in one trip. ErrNotFound when
	// either is gone. The caller checks the secret, the expiries and EndedAt.
	SessionUser(ctx context.Context, id SessionID) (Session, User, error)
	// TouchSession moves LastSeen and IdleExpires forward, never back.
	// Nothing happens to a session that was ended or is gone.
	TouchSession(ctx context.Context, id SessionID, seen, idleExpires time.Time) error
	// RenewSession puts s in the place of the session that has its ID: the
	// same person has logged in again in the same browser. LastSeen and
	// IdleExpires never move back. ErrNotFound when there is none or it was
	// ended; nothing happens then.
	RenewSession(ctx context.Context, s Session) error
	// EndSession sets EndedAt once; ending it again changes nothing and is no
	// error. ErrNotFound when there is none.
	EndSession(ctx context.Context, id SessionID, at time.Time) error
	// ListSessions lists a user's sessions ordered by ID; Page.After is an ID.
	ListSessions(ctx context.Context, u UserID, p Page) ([]Session, error)
}

// Redemption is the use of an authorization code.
type Redemption struct {
	Grant GrantID
	At    time.Time
	// IdleExpires is when the first refresh token goes idle; zero when none
	// is issued.
	IdleExpires time.Time
	// Expires is when the grant ends.
	Expires time.Time
	// JKT becomes the grant's, if it is not empty: the family is bound to the
	// key that the code was redeemed with. Which one may redeem it is the
	// caller's to check; refused is what Grant.JKT can't be.
	JKT string
}

// Rotation is the use of a refresh token.
type Rotation struct {
	Grant GrantID
	// From is the generation that the presented token belongs to.
	From uint64
	At   time.Time
	// Grace is how long after a rotation the token before it still counts as
	// the same client asking again.
	Grace time.Duration
	// IdleExpires is when the successor goes idle. The store keeps the later
	// one of this and what is there.
	IdleExpires time.Time
	// Keep leaves the generation as it is: the refresh token of a
	// confidential client stays, because it is worth nothing without the
	// client's credential (FAPI 2.0 Security Profile §5.3.2.1).
	Keep bool
	// OnlyUntil slows the user down, if it is not zero: it is the only refresh
	// that the user gets until then, with whichever grant.
	OnlyUntil time.Time
}

// Grants keeps the grants, by ID.
type Grants interface {
	// CreateGrant stores a grant whose ID is of its Session and User, all of
	// it: also one that was used before, of another store. ErrExists when the
	// ID is taken.
	CreateGrant(ctx context.Context, g Grant) error

	// Standing reads a grant with its session and user, and the version of
	// the client that presents it, in one trip. ErrNotFound when there is no
	// such grant.
	Standing(ctx context.Context, id GrantID, client clients.ID) (Standing, error)

	// Redeem spends the code of a grant: exactly one caller ever gets nil.
	// It sets RedeemedAt, Generation 1, RotatedAt zero, IdleExpires and
	// Expires. Every later caller gets ErrReused and in the same step the
	// grant is revoked (RFC 6749 §4.1.2). ErrExpired when At is not before
	// CodeExpires (an unspent code), ErrRevoked, ErrNotFound.
	Redeem(ctx context.Context, r Redemption) error

	// Rotate uses the refresh token of generation From. In this order:
	//
	//  ErrNotFound  no such grant, or its code was never redeemed
	//  ErrRevoked   it was revoked before
	//  ErrExpired   At is not before Expires or IdleExpires
	//  ErrTooSoon   From is the current generation, OnlyUntil is not zero, and
	//               At is before the OnlyUntil of another rotation of the
	//               user's; nothing changes
	//  From is the current generation: Generation becomes From+1, RotatedAt
	//               becomes At, IdleExpires moves: nil
	//  From is the one before, and At is within Grace after RotatedAt: the
	//               same client asks again; nothing changes: nil. The
	//               successor is the same one, so the family does not fork.
	//               (An At before RotatedAt, by clock skew, is within.)
	//  From is ahead of the current generation: ErrNotFound (the store was
	//               restored from a backup; nothing is revoked)
	//  ErrReused    anything else: the grant is revoked in the same step
	//
	// In both cases of nil the live token is that of generation From+1. So who
	// asks again for what was lost, or twice at once, is never too soon: to be
	// refused then, and to come again later, would be reuse.
	//
	// With Keep nothing rotates: From is the current generation, and only
	// IdleExpires moves: nil, and the live token stays that of From. All else
	// is the same, also that the one before is answered within Grace: a client
	// may have become a confidential one just after a rotation.
	Rotate(ctx context.Context, r Rotation) error

	// RevokeGrant ends a grant; doing it again keeps the first reason and is
	// no error. ErrNotFound when there is none.
	RevokeGrant(ctx context.Context, id GrantID, at time.Time, reason string) error

	// ListGrants lists a user's grants ordered by ID; Page.After is an ID.
	ListGrants(ctx context.Context, u UserID, p Page) ([]Grant, error)
}

// ReasonCodeReuse and ReasonRefreshReuse are the RevokedFor that Redeem and
// Rotate set by themselves.
const (
	ReasonCodeReuse    = "authorization code used twice"
	ReasonRefreshReuse = "refresh token reused"
)
