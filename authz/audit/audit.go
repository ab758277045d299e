// Package audit writes down what an operator must be able to answer for: who
// logged in, who was refused, what was revoked, by whom and why.
//
// An [Event] never holds a code, a token, a password or a cookie. [Log.Record]
// takes one and never waits; [Log.Write] takes one that decides something and
// waits until it is kept. Both put it, at once, into the structured log.
//
// # What is kept
//
// The store keeps the lines of all servers and of the command line as one chain,
// in the order in which they came ([storage.Audit]): the link of each line is a
// SHA-256 over the link before it and the line. [Verify] reads it from the begin
// and names what is not as it was written:
//
//   - a line that was altered, put in, taken out or put elsewhere: every link
//     behind it would have to be another;
//   - a chain that was written anew, links and all: a server seals it, at its
//     start, at its stop and in every minute in which lines came, by a line
//     with a message authentication code over the link before it. It is made
//     with a secret that the master key opens and the store does not have;
//   - a begin that somebody removed: what the store removes because its time is
//     up ([Config.Keep]) is up to a line that is itself past its time, and the
//     line behind that one proves it. Any other begin but line 1 is a theft;
//   - an end that was cut off: each seal is also in the structured log, with the
//     number and the link of its line. A log that has that line no more was cut
//     off before it. A server that runs notices at its next line, and says so
//     in both logs.
//
// What does not show: lines of the last minute, behind the last seal, that
// somebody alters who can write to the store, and lines that they append, as
// the command line does; and an end that was cut off while no server ran, to who
// has noted no head anywhere.
//
// # What is not kept
//
// What strangers can cause without an account ("authorization refused", all that
// ends with " refused") is kept once a second and process, after a burst of 500,
// its texts shorter: 86,400 lines a day at most, whoever attacks. What an account can cause without
// end ("code issued") is kept once a second for each, after a burst of 60. How many
// were left out is a line of its own, once a minute. While the store can't be
// written, 4096 lines wait; how many did not fit is a line, too. The structured
// log has all of them.
package audit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Event is one thing that happened, in the past tense ("login succeeded",
// "authorization refused"). Empty fields are left out, and long texts are
// shortened. A What that ends with " refused" is for what decides nothing but
// that a stranger's request was refused: such lines may be left out.
type Event struct {
	What    string            `json:"what"`
	Client  clients.ID        `json:"client,omitempty"`
	User    storage.UserID    `json:"user,omitempty"`
	Session storage.SessionID `json:"session,omitempty"`
	Grant   storage.GrantID   `json:"grant,omitempty"`
	Key     string            `json:"key,omitempty"` // kid
	// RedirectURI is the one that was refused.
	RedirectURI string `json:"redirect_uri,omitempty"`
	// Origin is the web origin that was refused.
	Origin  string     `json:"origin,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
	// OtherAddresses are those beside Address that a resource server saw.
	OtherAddresses []netip.Addr `json:"other_addresses,omitempty"`
	// ResourceServer is who said it, where it was an API.
	ResourceServer clients.ID `json:"resource_server,omitempty"`
	// JKT is the thumbprint of the key that the token was bound to.
	JKT string `json:"jkt,omitempty"`
	// Rule is the name of the policy's rule that decided it, where one did.
	Rule string `json:"rule,omitempty"`
	// Reason says why, in words of ours.
	Reason string `json:"reason,omitempty"`
	// Request is the id that the error page showed.
	Request string `json:"request,omitempty"`
	// Operator is the person who did it by hand, see [WithOperator].
	Operator string `json:"operator,omitempty"`
	// Count is how many, where the event is about many.
	Count int `json:"count,omitempty"`
}

// Config is what a [Log] is made of.
type Config struct {
	// Log gets every line, with audit=true; nil: nobody does.
	Log *slog.Logger
	// Store keeps the lines; nil: they are in Log alone.
	Store storage.Audit
	// Keep is how long a line is kept; 0: for ever. What was once written to be
	// kept for ever keeps all lines behind it, too.
	Keep time.Duration
	// Secret is that of the key ring, see keys.Ring.Secret; with nil this
	// process does not seal.
	Secret func(purpose string) [32]byte
	// Now and Rand are the clock and the source of randomness; nil means the
	// real ones.
	Now  func() time.Time
	Rand io.Reader
}

// Log writes events. It is safe for concurrent use. A process has one.
type Log struct {
	config  Config
	log     *slog.Logger
	process string // random: lines of two processes are never the same
	key     []byte // of the seals; nil: none are made
	limits  limits

	// How the writer waits; tests make it shorter.
	delay, patience time.Duration

	mu      sync.Mutex
	queue   []*waiting
	number  uint64 // of the last line that was queued
	lost    int    // lines that did not fit into the queue
	running chan struct{}
	closed  bool
	urgent  chan struct{} // somebody waits
	ctx     context.Context
	stop    context.CancelFunc

	sealed atomic.Uint64 // the number of the last line that is known to be a seal
	begin  uint64        // of Run: that of the first line, if it was told that it can't be

	// The writer's alone.
	head   storage.AuditHead
	known  bool // head was read
	unsure bool // an append may have happened

	appended time.Time     // when the last lines were
	turn     time.Duration // of the others, from then on
}

// New returns a Log. It does nothing by itself until it is given an event; see
// [Log.Run] for what a server does besides, and [Log.Close].
func New(c Config) *Log {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	l := &Log{config: c, log: c.Log.With("audit", true), urgent: make(chan struct{}, 1), delay: 100 * time.Millisecond, patience: 5 * time.Second}
	l.ctx, l.stop = context.WithCancel(context.Background())
	if c.Store == nil {
		return l
	}
	var id [9]byte
	if _, err := io.ReadFull(c.Rand, id[:]); err != nil {
		panic(err) // without randomness nothing here is safe
	}
	l.process = base64.RawURLEncoding.EncodeToString(id[:])
	if c.Secret != nil {
		key := c.Secret(sealPurpose)
		l.key = key[:]
	}
	return l
}

type operatorKey struct{}

// WithOperator says who acts by hand, such as "cli:alice": the Operator of every
// event that is written with the context.
func WithOperator(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, operatorKey{}, who)
}

// Operator returns who acts by hand with this context, or "".
func Operator(ctx context.Context) string {
	who, _ := ctx.Value(operatorKey{}).(string)
	return who
}

// Record writes e. It never waits for the store: a moment later e is there, or
// when the store works again.
func (l *Log) Record(ctx context.Context, e Event) {
	e = l.tell(ctx, e)
	if l.config.Store == nil {
		return
	}
	now := l.config.Now()
	if l.limits.leftOut(e, now) {
		return
	}
	if ofStrangers(e) {
		e = e.short(strangersText)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) >= maxQueue && !l.closed {
		l.lost++
		return
	}
	l.enqueue(&waiting{event: e, at: now})
}

// Write writes e and returns when it is kept. With an error it may not be: it is
// in the structured log, and this process goes on trying to keep it.
// [storage.ErrUnavailable] or [storage.ErrUnknown].
func (l *Log) Write(ctx context.Context, e Event) error {
	e = l.tell(ctx, e)
	if l.config.Store == nil {
		return nil
	}
	return l.await(ctx, &waiting{event: e, at: l.config.Now(), done: make(chan error, 1)})
}

// tell completes e and writes it to the structured log.
func (l *Log) tell(ctx context.Context, e Event) Event {
	if e.Operator == "" {
		e.Operator = Operator(ctx)
	}
	e = e.short(longText)
	l.log.LogAttrs(ctx, slog.LevelInfo, e.What, e.attrs()...)
	return e
}

func (e Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 10)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("client", string(e.Client))
	add("user", string(e.User))
	add("session", string(e.Session))
	add("grant", string(e.Grant))
	add("key", e.Key)
	add("redirect_uri", e.RedirectURI)
	add("origin", e.Origin)
	if e.Address.IsValid() {
		add("address", e.Address.String())
	}
	for _, a := range e.OtherAddresses {
		add("other_address", a.String())
	}
	add("resource_server", string(e.ResourceServer))
	add("jkt", e.JKT)
	add("rule", e.Rule)
	add("reason", e.Reason)
	add("request", e.Request)
	add("operator", e.Operator)
	if e.Count > 0 {
		attrs = append(attrs, slog.Int("count", e.Count))
	}
	return attrs
}

// Bounds of the texts of an event, in bytes. Reason may be four times as long.
const (
	longText     = 256
	shortText    = 64 // of a line that would be too long otherwise
	maxAddresses = 16
)

// short returns e with no text longer than that.
func (e Event) short(most int) Event {
	cut := func(s string, most int) string {
		if len(s) > most {
			s = strings.ToValidUTF8(s[:most], "\uFFFD")
		}
		return s
	}
	e.What, e.Key, e.RedirectURI, e.Origin, e.JKT = cut(e.What, most), cut(e.Key, most), cut(e.RedirectURI, most), cut(e.Origin, most), cut(e.JKT, most)
	e.Rule, e.Request, e.Operator, e.Reason = cut(e.Rule, most), cut(e.Request, most), cut(e.Operator, most), cut(e.Reason, 4*most)
	e.Client, e.ResourceServer = clients.ID(cut(string(e.Client), most)), clients.ID(cut(string(e.ResourceServer), most))
	e.User, e.Session, e.Grant = storage.UserID(cut(string(e.User), most)), storage.SessionID(cut(string(e.Session), most)), storage.GrantID(cut(string(e.Grant), most))
	e.OtherAddresses = e.OtherAddresses[:min(len(e.OtherAddresses), maxAddresses)]
	return e
}
