package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/pages"
)

// maxBody is the most that a form may have, in bytes.
const maxBody = 64 << 10

// formBody returns the parameters of the request's body, which must be a form
// or empty. Unlike ParseForm it never mixes in the query.
func formBody(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("body of at most %d bytes expected: %w", maxBody, err)
	}
	if len(body) == 0 {
		return nil, nil
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/x-www-form-urlencoded" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/x-www-form-urlencoded" {
			return nil, errors.New("body of another type than application/x-www-form-urlencoded")
		}
	}
	return url.ParseQuery(string(body))
}

// marshal encodes a value of our own types, which can't fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Header values that never change are shared.
var (
	jsonType  = []string{"application/json"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"}
	noSniff   = []string{"nosniff"}
	anyOrigin = []string{"*"}
)

// refuseJSON answers err as a JSON error (RFC 6749 §5.2) and logs its cause
// under the request id that the answer carries.
func (s *Server) refuseJSON(w http.ResponseWriter, r *http.Request, err error) {
	e := oauth.As(err)
	s.logRefusal(r, e)
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Pragma"] = noCache
	h["X-Content-Type-Options"] = noSniff
	h.Set("X-Request-Id", s.requestID(r))
	status := e.HTTPStatus()
	switch {
	case e.RetryAfter > 0:
		h.Set("Retry-After", seconds(e.RetryAfter))
	case status == http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case e.Code == oauth.InvalidClient && status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Basic realm="solegate"`) // RFC 6749 §5.2
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Error       oauth.Code `json:"error"`
		Description string     `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}

// seconds is a wait as Retry-After says it (RFC 9110 §10.2.3), and no less.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

func (s *Server) logRefusal(r *http.Request, e *oauth.Error) {
	level := slog.LevelInfo
	if e.HTTPStatus() >= 500 {
		level = slog.LevelError
	}
	cause := ""
	if e.Cause != nil {
		cause = e.Cause.Error()
	}
	s.log.LogAttrs(r.Context(), level, "request refused",
		slog.String("path", r.URL.Path), slog.String("error", string(e.Code)),
		slog.String("cause", cause), slog.String("request", s.requestID(r)))
}

// page answers with a page that says what went wrong, in words of ours, and
// the request id under which the log has the reason.
func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, title, text string, cause error) {
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "page refused",
		slog.String("path", r.URL.Path), slog.String("page", title),
		slog.String("cause", fmt.Sprint(cause)), slog.String("request", s.requestID(r)))
	s.pages.Write(w, s.headers(), status, pages.Error{Title: title, Text: text, RequestID: s.requestID(r)})
}

func (s *Server) headers() pages.Headers { return pages.Headers{Secure: !s.Development} }

func (s *Server) pageHeaders(w http.ResponseWriter) { s.headers().Set(w) }

// topLevel refuses a page of ours that would be shown inside another one or
// fetched by a script. It answers by itself.
func (s *Server) topLevel(w http.ResponseWriter, r *http.Request) bool {
	if err := login.TopLevel(r); err != nil {
		s.page(w, r, http.StatusForbidden, "This page can't be shown here", "It opens only as a page of its own.", err)
		return false
	}
	return true
}

type requestIDKey struct{}

// WithRequestID returns a context whose request is logged under id, for a
// server that numbers its requests by itself.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// requestID returns the id of the request, the same each time it is asked. It
// is made only for requests that need one.
func (s *Server) requestID(r *http.Request) string {
	if id, ok := r.Context().Value(requestIDKey{}).(string); ok {
		return id
	}
	id := s.randomText(9)
	*r = *r.WithContext(WithRequestID(r.Context(), id))
	return id
}

// address is where the request comes from: the peer, or what a trusted proxy
// says of it. The chain is read from its end; the first address that is no
// trusted proxy's is the client's.
func (s *Server) address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap()
	if !s.trusted(address) {
		return address
	}
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(chain) - 1; i >= 0; i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(chain[i]))
		if err != nil {
			break
		}
		address = next.Unmap()
		if !s.trusted(address) {
			break
		}
	}
	return address
}

func (s *Server) trusted(a netip.Addr) bool {
	for _, p := range s.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
