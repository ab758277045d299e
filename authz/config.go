package authz

import (
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// Config is what a [Server] is made of. Issuer, Store and Ring are required.
type Config struct {
	// Issuer is the server's public URL, exactly as tokens and metadata carry
	// it (RFC 8414 §2): https, no query, no fragment, no trailing slash.
	Issuer string

	// Development allows an http issuer on loopback, and clients registered
	// for development. Never set it where anybody else can connect.
	Development bool

	Store storage.Store
	Ring  *keys.Ring

	// AccessTokenAlg signs access tokens: ES256 (the default), RS256 or EdDSA.
	AccessTokenAlg keys.Algorithm

	Lifetimes Lifetimes

	// Password says how passwords are hashed. The zero value is the default.
	Password password.Params

	// BindLoginToAddress also binds the login form's anti-forgery token to
	// the client's address. Off by default: people change networks.
	BindLoginToAddress bool

	// TrustedProxies may set X-Forwarded-For. From any other peer the header
	// is ignored. Nothing else of X-Forwarded-* is ever read.
	TrustedProxies []netip.Prefix

	// LogoutNetworks are where a client's backchannel_logout_uri may lead
	// although it is no public address. Without any, only public addresses
	// are told of a logout, and in development mode loopback.
	LogoutNetworks []netip.Prefix

	// Admin serves the operator's API (see package admin) under /admin, to
	// access tokens of operators: off by default.
	Admin bool

	// AdminMaxAge is how long ago an operator may have logged in: an hour if
	// zero, a day at most.
	AdminMaxAge time.Duration

	// SuspendedNotice is what a person reads who is suspended and signs in with
	// the right password; a sentence of ours if empty. It is plain text of at
	// most 500 characters in one line. Until when it lasts is added.
	SuspendedNotice string

	// Abuse says what becomes of accounts that APIs report. The zero value
	// keeps what they say and does nothing.
	Abuse abuse.Policy

	// FeedHeartbeat is how often a stream of the revocation feed on which
	// nothing happens says so: 5 seconds if zero, a minute at most. An API takes
	// a stream that is silent for two thirds of its StaleAfter for a broken one.
	FeedHeartbeat time.Duration

	// StatusList gives every grant a place in a Token Status List, which its
	// access tokens name, and serves the lists: for APIs whose library reads
	// them. Set it at all servers of a store alike.
	StatusList bool

	// Audit is the audit log, which [Server.Run] seals and closes; with nil its
	// lines are in Log alone.
	Audit *audit.Log

	// Log takes what happened; nil discards it.
	Log *slog.Logger

	// Now and Rand are the clock and the source of randomness; nil means the
	// real ones.
	Now  func() time.Time
	Rand io.Reader
}

// Lifetimes are how long things last. Zero means the default.
type Lifetimes struct {
	AccessToken  time.Duration // 5 minutes; at most 1 hour
	IDToken      time.Duration // 5 minutes; at most 1 hour
	Code         time.Duration // 60 seconds, which is also the most
	RefreshIdle  time.Duration // 24 hours without a refresh end the grant
	RefreshLife  time.Duration // 7 days end the grant, however it is used
	RefreshGrace time.Duration // 10 seconds in which a token may be presented again; at most 60
	SessionIdle  time.Duration // 24 hours without a login end the session
	SessionLife  time.Duration // 7 days end the session and its grants
	Login        time.Duration // 10 minutes to complete the login pages; at most 1 hour
}
