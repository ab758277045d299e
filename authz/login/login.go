// Package login finds out who is there: sessions, the login and consent pages,
// and the anti-forgery token of every form.
//
// The authorization endpoint asks [Login.Current] who is signed in. If it
// wants a step it calls [Login.BeginLogin] or [Login.BeginConsent] with the
// [Pending] request. Each step ends by a redirect back to the authorization
// endpoint, which takes the request up again with [Login.Resume]; the proof of
// the step is in it. No step knows what comes next.
//
// # Nothing waits in the store
//
// A pending request is sealed with a server key and held by the browser, bound
// to a cookie of that browser. Any server that shares the key goes on with it.
package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/authz/pages"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/authz/throttle"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// ACRPassword is the authentication context of a login by password alone, and
// AMRPassword its method (RFC 8176 §2).
const (
	ACRPassword = "urn:solegate:acr:password"
	AMRPassword = "pwd"
)

// Store is what a Login needs of [storage.Store].
type Store interface {
	storage.Users
	storage.Sessions
	storage.Counters
}

// Config is what a [Login] is made of. All but Rand and BindAddress is
// required.
type Config struct {
	Issuer      string
	Development bool // cookies work over http on loopback

	Store   Store
	Seal    func(purpose string, plain []byte) string
	Unseal  func(purpose, sealed string) ([]byte, error)
	Secret  func(purpose string) [32]byte
	Revoker *revocation.Revoker
	Hasher  *password.Hasher
	Pages   *pages.Pages
	Audit   *audit.Log
	Log     *slog.Logger
	Now     func() time.Time
	Rand    io.Reader

	SessionIdle time.Duration // a session ends after so long without a login
	SessionLife time.Duration // and after so long in any case
	Life        time.Duration // to complete the pages

	SuspendedNotice string // what a suspended person reads

	BindAddress bool                           // of the anti-forgery token
	Address     func(*http.Request) netip.Addr // of the client
	RequestID   func(*http.Request) string
}

// Login finds out who is there. It is safe for concurrent use.
type Login struct {
	Config
	throttle *throttle.Throttle
	cookies  cookieNames
}

// New returns a Login.
func New(c Config) (*Login, error) {
	if c.Store == nil || c.Seal == nil || c.Unseal == nil || c.Secret == nil || c.Revoker == nil || c.Hasher == nil || c.Pages == nil ||
		c.Audit == nil || c.Log == nil || c.Now == nil || c.Address == nil || c.RequestID == nil {
		return nil, errors.New("login: a required field of Config is missing")
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	l := &Login{Config: c, cookies: namesFor(c.Development)}
	l.throttle = throttle.New(c.Store, c.Secret("login throttle"), c.Now)
	if c.Development {
		c.Log.Warn("development mode: cookies are sent over plain http and have no __Host- prefix; never run this where others can connect")
	}
	return l, nil
}

// Pending is an authorization request that waits for the person.
type Pending struct {
	Parameters     url.Values // the request, checked
	Pushed         string     // what it was pushed as, or empty (RFC 9126)
	ClientID       clients.ID
	ClientName     string
	RedirectOrigin string // where the browser ends up after the last step
	LoginHint      string
	Scopes         []string
	IssuedAt       time.Time

	LoggedIn  *Proof // what the login step proved
	Consented *Proof // what the consent step proved
}

// Proof is the outcome of a step that was made for this very request.
type Proof struct {
	Session storage.SessionID
	At      time.Time
	Scopes  []string // that were agreed to
	Denied  bool
}

// ErrNoSession says that nobody is signed in in this browser.
var ErrNoSession = errors.New("nobody is signed in")

// touchEvery is how far LastSeen may lag behind, so that not every request
// writes.
const touchEvery = 5 * time.Minute

// Current returns the session that the browser shows and its user. The error
// is ErrNoSession, or the store's.
func (l *Login) Current(r *http.Request) (s storage.Session, u storage.User, err error) {
	id, secret, ok := l.sessionCookie(r)
	if !ok {
		return s, u, ErrNoSession
	}
	s, u, err = l.Store.SessionUser(r.Context(), id)
	if errors.Is(err, storage.ErrNotFound) {
		return storage.Session{}, storage.User{}, ErrNoSession
	} else if err != nil {
		return storage.Session{}, storage.User{}, err
	}
	now, hash := l.Now(), sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(hash[:], s.Secret[:]) != 1 || !now.Before(s.IdleExpires) || revocation.SessionLive(s, u, now) != nil {
		return storage.Session{}, storage.User{}, ErrNoSession
	}
	if now.Sub(s.LastSeen) > touchEvery {
		// A session that can't be touched now still is one.
		if err := l.Store.TouchSession(r.Context(), id, now, now.Add(l.SessionIdle)); err != nil {
			l.Log.Warn("session could not be touched", "error", err)
		}
	}
	return s, u, nil
}

// start makes u, as it was read at the time of at, the one who is signed in.
// The session dates from then: a password that was changed while the old one
// was being checked ends it. Whatever the cookie was before, it is worth nothing
// after.
//
// One browser has one session. If the same person is signed in already, and
// only has to log in again (prompt=login, max_age, a step-up), that session is
// renewed and keeps its identifier: so the person's other applications stay
// signed in, and who then signs out is signed out of everything that this
// browser ever signed in to. A second session beside the first would leave the
// grants of the first alive; to end the first would throw the other
// applications out at every step-up. A session of somebody else ends, with its
// grants.
func (l *Login) start(ctx context.Context, w http.ResponseWriter, r *http.Request, u storage.User, at time.Time) (storage.Session, error) {
	secret := make([]byte, 32)
	if _, err := io.ReadFull(l.Rand, secret); err != nil {
		return storage.Session{}, err
	}
	old, _, err := l.Current(r)
	if err != nil && !errors.Is(err, ErrNoSession) {
		return storage.Session{}, err
	}
	s := storage.Session{
		ID: old.ID, Secret: sha256.Sum256(secret), User: u.ID, Epoch: u.Epoch,
		AuthTime: at, ACR: ACRPassword, AMR: []string{AMRPassword},
		CreatedAt: old.CreatedAt, LastSeen: at, IdleExpires: at.Add(l.SessionIdle), Expires: at.Add(l.SessionLife),
		Address: l.Address(r).String(), UserAgent: shorten(r.UserAgent(), 256),
	}
	err = storage.ErrNotFound
	// A session of another epoch was begun with another password than the one
	// that was just checked.
	if old.User == u.ID && old.Epoch == u.Epoch {
		err = l.Store.RenewSession(ctx, s)
	}
	if errors.Is(err, storage.ErrNotFound) { // none, or it has ended meanwhile
		if s.ID, err = storage.NewSessionID(u.ID, l.Rand); err != nil {
			return storage.Session{}, err
		}
		s.CreatedAt = at
		err = l.Store.CreateSession(ctx, s)
	}
	if err == nil && old.ID != "" && old.User != u.ID {
		// One that was removed meanwhile has ended, also if only the audit log
		// does not have it yet.
		if err = l.Revoker.EndSession(ctx, old.ID, "somebody else signed in in this browser"); errors.Is(err, storage.ErrNotFound) || errors.Is(err, revocation.ErrNotRecorded) {
			err = nil
		}
	}
	if err != nil {
		return storage.Session{}, err
	}
	l.setSessionCookie(w, s, secret)
	return s, nil
}

// End takes the session's cookie away. The caller ends the session itself.
func (l *Login) End(w http.ResponseWriter, _ *http.Request) { l.clear(w, l.cookies.session) }

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
