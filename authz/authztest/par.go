package authztest

import (
	"encoding/json"
	"net/url"
)

// Pushed is the answer of the pushed authorization request endpoint.
type Pushed struct {
	Status      int
	RequestURI  string `json:"request_uri"`
	ExpiresIn   int    `json:"expires_in"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// Push pushes a good authorization request, but for the changes (RFC 9126).
func (s *Server) Push(changes ...string) Pushed {
	s.TB.Helper()
	resp, body := s.post("/par", s.Authorization(changes...))
	p := Pushed{Status: resp.StatusCode}
	check(s.TB, json.Unmarshal(body, &p))
	return p
}

// Visit opens the authorization endpoint with a request_uri and follows to the
// first page or to the client.
func (b *Browser) Visit(requestURI string, changes ...string) Page {
	b.server.TB.Helper()
	q := url.Values{"client_id": {string(b.server.Client.ID)}, "request_uri": {requestURI}}
	change(q, changes)
	return b.Follow(b.Get("/authorize?" + q.Encode()))
}
