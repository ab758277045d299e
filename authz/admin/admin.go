// Package admin is the operator's HTTP API: what an operator can do by the
// command line to a store that is in use, as JSON over HTTP. It is described by
// openapi.yaml, which is served beside it.
//
// An [API] does not know who asks. Whoever serves it is a door, which says so by
// the function that it gives to [API.Serve]: package authz has one for access
// tokens of operators, and cmd/solegate one that is a Unix socket. A door's word
// comes before anything else is looked at, but for the request's origin: no page
// of another site ever gets further, whatever it has.
//
// Everything that is ended here is ended by [revocation.Revoker], so what follows
// of it is the same as by the command line. An act that has begun is finished,
// also if who asked for it hangs up. All of them may be done again.
//
// The types are the shapes of the nouns, here and in the answers of the command
// line: a [User], a [Session], a [Client], a key as [keys.Info].
package admin

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// Path is what every path of the API begins with, and Scope the scope of the
// access tokens that it takes.
const (
	Path  = "/admin"
	Scope = "solegate:admin"
)

// Audience is the audience of the access tokens that the API takes: a client
// gets them only if it is registered for it, and for [Scope].
func Audience(issuer string) string { return issuer + Path }

// Store is what an API reads of [storage.Store].
type Store interface {
	storage.Clients
	storage.Users
	storage.Sessions
	storage.Grants
	storage.Cases
	storage.Audit
}

// Config is what an [API] is made of. All of it is required.
type Config struct {
	// Issuer is the one origin whose pages may call the API.
	Issuer  string
	Store   Store
	Ring    *keys.Ring
	Revoker *revocation.Revoker
	Judge   *abuse.Judge
	// UserName gives a login name the one form in which it is compared, or
	// says that it is none.
	UserName func(string) (string, error)
	// RequestID is the id under which the request is logged.
	RequestID func(*http.Request) string
	Log       *slog.Logger
	Now       func() time.Time
}

// API is the operator's API. It is safe for concurrent use.
type API struct {
	Config
	mux     *http.ServeMux
	streams streams
}

// New returns an API.
func New(c Config) *API {
	a := &API{Config: c, mux: http.NewServeMux(), streams: newStreams()}
	for _, r := range routes {
		a.mux.Handle(r.pattern, &r)
	}
	return a
}

// route is one operation.
type route struct {
	pattern string // of http.ServeMux
	// answer does it and returns what is answered as JSON, or a text, which is
	// answered as it is, or a stream. The error says why not, see problem.go.
	answer func(*API, *call) (any, error)
	query  []string // the parameters that it takes
	body   []string // the members of its body that it takes
}

// ServeHTTP says that the multiplexer has found the route. See [API.match].
func (r *route) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.(*matching).route = r }

// routes are all of the API; openapi.yaml has the same ones.
var routes = []route{
	{pattern: "GET /admin/openapi.yaml", answer: (*API).openAPI},

	{pattern: "GET /admin/users", answer: (*API).listUsers, query: []string{"name", "after", "limit"}},
	{pattern: "GET /admin/users/{user}", answer: (*API).showUser},
	{pattern: "POST /admin/users/{user}/block", answer: (*API).blockUser, body: []string{"reason", "until", "for"}},
	{pattern: "POST /admin/users/{user}/unblock", answer: (*API).unblockUser},
	{pattern: "POST /admin/users/{user}/revoke", answer: (*API).revokeUser, body: []string{"reason"}},
	{pattern: "GET /admin/users/{user}/sessions", answer: (*API).listSessions, query: []string{"after", "limit"}},
	{pattern: "POST /admin/users/{user}/sessions/{session}/end", answer: (*API).endSession, body: []string{"reason"}},

	{pattern: "GET /admin/clients", answer: (*API).listClients, query: []string{"after", "limit"}},
	{pattern: "GET /admin/clients/{client}", answer: (*API).showClient},
	{pattern: "POST /admin/clients/{client}/disable", answer: (*API).disableClient},
	{pattern: "POST /admin/clients/{client}/enable", answer: (*API).enableClient},

	{pattern: "GET /admin/keys", answer: (*API).listKeys},
	{pattern: "POST /admin/keys/{key}/revoke", answer: (*API).revokeKey, body: []string{"reason"}},

	{pattern: "GET /admin/cases", answer: (*API).listCases, query: []string{"all", "after", "limit"}},
	{pattern: "GET /admin/cases/{user}", answer: (*API).showCase},
	{pattern: "POST /admin/cases/{user}/dismiss", answer: (*API).dismissCase, body: []string{"reason"}},

	{pattern: "GET /admin/audit", answer: (*API).searchAudit, query: append([]string{"before", "limit"}, whichLines...)},
	{pattern: "GET /admin/audit/follow", answer: (*API).followAudit, query: append([]string{"after"}, whichLines...)},

	{pattern: "POST /admin/revoke-all", answer: (*API).revokeAll, body: []string{"reason"}},
}

// Operator is who makes a request, as a door knows it.
type Operator struct {
	// Name is how the audit log names it.
	Name string
	// Still says, while a stream goes on, why the operator may no longer have
	// it; nil means that nothing can end it.
	Still func(context.Context) error
}

// Door says which operator makes the request, or why nobody may: a [*Problem],
// or an error that is answered as one of the server's own.
type Door func() (Operator, error)

// Serve answers the request.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, door Door) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if err := a.sameOrigin(r); err != nil {
		a.refuse(w, r, "", err)
		return
	}
	who, err := door()
	if err != nil {
		a.refuse(w, r, "", err)
		return
	}
	r = r.WithContext(audit.WithOperator(r.Context(), who.Name))
	c, err := a.call(w, r)
	if err != nil {
		a.refuse(w, r, who.Name, err)
		return
	}
	answer, err := c.route.answer(a, c)
	if err != nil {
		a.refuse(w, r, who.Name, err)
		return
	}
	a.Log.LogAttrs(r.Context(), slog.LevelInfo, "operator served",
		slog.String("operator", who.Name), slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("request", a.RequestID(r)))
	switch answer := answer.(type) {
	case stream:
		a.serveStream(w, r, who, answer)
	case text:
		h.Set("Content-Type", answer.media)
		w.Write(answer.body)
	default:
		h.Set("Content-Type", "application/json")
		w.Write(marshal(answer))
	}
}

// sameOrigin refuses what a page of another site sends, or makes a browser
// send. There is no CORS either, and no cookie is ever looked at.
func (a *API) sameOrigin(r *http.Request) error {
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin" && sites[0] != "none" {
		return refusef(http.StatusForbidden, "The API can't be called from another site.", "Sec-Fetch-Site is %.40q", sites)
	}
	if origins := r.Header["Origin"]; len(origins) > 1 || len(origins) == 1 && origins[0] != a.Issuer {
		return refusef(http.StatusForbidden, "The API can't be called from another site.", "Origin is %.200q", origins)
	}
	return nil
}

// match finds the route of a request, and sets the values of its path. Where the
// multiplexer would redirect there is none.
func (a *API) match(w http.ResponseWriter, r *http.Request) (*route, error) {
	m := &matching{header: http.Header{}}
	a.mux.ServeHTTP(m, r)
	if allow := m.header.Get("Allow"); m.route == nil && allow != "" {
		w.Header().Set("Allow", allow)
		return nil, refusef(http.StatusMethodNotAllowed, "There is no such method at this path.", "method %.20q", r.Method)
	} else if m.route == nil {
		return nil, refusef(http.StatusNotFound, "There is nothing at this path.", "no route")
	}
	return m.route, nil
}

// matching takes what the multiplexer makes of a request: a route, or an answer
// that nobody gets.
type matching struct {
	route  *route
	header http.Header
}

func (m *matching) Header() http.Header       { return m.header }
func (*matching) Write(b []byte) (int, error) { return len(b), nil }
func (*matching) WriteHeader(int)             {}

// text is an answer that is no JSON.
type text struct {
	media string
	body  []byte
}

//go:embed openapi.yaml
var openAPI []byte

func (*API) openAPI(*call) (any, error) { return text{"application/yaml", openAPI}, nil }

// marshal encodes a value of our own types, which can't fail.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// list is a part of a listing. Next asks for the part after it; it is empty at
// the end. A part may be shorter than was asked for without being the last.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// user and client are identifiers as the path has them.
func (c *call) user() storage.UserID { return storage.UserID(c.id("user")) }
func (c *call) client() clients.ID   { return clients.ID(c.id("client")) }
