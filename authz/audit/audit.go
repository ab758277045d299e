// Package audit writes down what an operator must be able to answer for: who
// logged in, who was refused, what was revoked and why.
//
// An [Event] never holds a code, a token, a password or a cookie.
package audit

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Event is one thing that happened, in the past tense ("login succeeded",
// "authorization refused"). Empty fields are left out.
type Event struct {
	What    string
	Client  clients.ID
	User    storage.UserID
	Session storage.SessionID
	Grant   storage.GrantID
	Key     string // kid
	// RedirectURI is the one that was refused, shortened to 256 bytes.
	RedirectURI string
	// Origin is the web origin that was refused, shortened to 256 bytes.
	Origin  string
	Address netip.Addr
	// OtherAddresses are those beside Address that a resource server saw.
	OtherAddresses []netip.Addr
	// ResourceServer is who said it, where it was an API.
	ResourceServer clients.ID
	// JKT is the thumbprint of the key that the token was bound to.
	JKT string
	// Rule is the name of the policy's rule that decided it, where one did.
	Rule string
	// Reason says why, in words of ours.
	Reason string
	// Request is the id that the error page showed.
	Request string
}

// Log writes events to a structured log, each line with audit=true.
type Log struct{ log *slog.Logger }

// New returns a Log that writes to l.
func New(l *slog.Logger) *Log { return &Log{l.With("audit", true)} }

// Record writes e.
func (l *Log) Record(ctx context.Context, e Event) {
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
	add("redirect_uri", shorten(e.RedirectURI))
	add("origin", shorten(e.Origin))
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
	l.log.LogAttrs(ctx, slog.LevelInfo, e.What, attrs...)
}

func shorten(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}
