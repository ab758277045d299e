package verify

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

type contextKey struct{}

// FromContext returns the token that Require checked. It is nil for a request
// that did not come through Require, so that using it there fails loudly.
func FromContext(ctx context.Context) *Token {
	t, _ := ctx.Value(contextKey{}).(*Token)
	return t
}

// NewContext returns a context with t as its token, for tests of handlers.
func NewContext(ctx context.Context, t *Token) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// Require lets a request through if it brings a token that passes and has all
// of the scopes. Otherwise it answers by RFC 6750 §3: 401 without a token or
// with a bad one, 403 if a scope is missing, 400 if the token stands where it
// must not, 503 while the issuer's keys are not known.
func (v *Verifier) Require(scopes ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t, err := v.request(r, scopes)
			if err != nil {
				v.answer(w, r, err, scopes)
				return
			}
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), t)))
		})
	}
}

var errNoToken = errors.New("no access token")

// request checks a request.
func (v *Verifier) request(r *http.Request, scopes []string) (*Token, error) {
	if origins := r.Header["Origin"]; len(v.config.Origins) > 0 && len(origins) > 0 {
		if len(origins) > 1 || !slices.Contains(v.config.Origins, origins[0]) {
			return nil, &Error{Code: "invalid_request", Description: "This origin may not call.", Status: http.StatusForbidden, Cause: errors.New("unlisted Origin")}
		}
	}
	if h := v.config.RequiredHeader; h != "" && r.Header.Get(h) == "" {
		return nil, &Error{Code: "invalid_request", Description: "A required header is missing.", Status: http.StatusForbidden, Cause: errors.New("no " + h)}
	}
	// RFC 9700 §4.3.2: a token in a URL ends up in logs and histories.
	if strings.Contains(r.URL.RawQuery, "access_token") {
		if q, err := url.ParseQuery(r.URL.RawQuery); err != nil || q.Has("access_token") {
			return nil, &Error{Code: "invalid_request", Description: "The access token belongs in the Authorization header.", Status: http.StatusBadRequest, Cause: errors.New("access token in the query")}
		}
	}
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return nil, errNoToken
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, &Error{Code: "invalid_request", Description: "One Authorization header with a Bearer token is expected.", Status: http.StatusBadRequest, Cause: errors.New("several or malformed Authorization headers")}
	}
	t, err := v.Verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	for _, scope := range scopes {
		if !t.HasScope(scope) {
			return nil, &Error{Code: "insufficient_scope", Description: "The access token lacks a scope that this needs.", Status: http.StatusForbidden, Cause: errors.New("no scope " + scope)}
		}
	}
	return t, nil
}

// answer refuses a request. Nothing that the caller sent is in it.
func (v *Verifier) answer(w http.ResponseWriter, r *http.Request, err error, scopes []string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	challenge := "Bearer"
	separator := " "
	add := func(name, value string) {
		challenge += separator + name + `="` + value + `"`
		separator = ", "
	}
	if v.metadata != "" {
		add("resource_metadata", v.metadata)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok { // no token: no error code (RFC 6750 §3.1)
		if len(scopes) > 0 {
			add("scope", strings.Join(scopes, " "))
		}
		h.Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	v.config.Log.InfoContext(r.Context(), "request refused", "path", r.URL.Path, "error", e.Code, "cause", e.Cause)
	if e.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	} else {
		add("error", e.Code)
		add("error_description", e.Description)
		if e.Code == "insufficient_scope" {
			add("scope", strings.Join(scopes, " "))
		}
		h.Set("WWW-Authenticate", challenge)
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(map[string]string{"error": e.Code, "error_description": e.Description})
}

// CORS lets pages of Config.Origins call next and read its answers, and
// answers their preflight requests (Fetch §3.2). It decides nothing about the
// token: put it outside of Require.
func (v *Verifier) CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		known := slices.Contains(v.config.Origins, origin)
		if known {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if !known {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		allowed := "Authorization, Content-Type"
		if v.config.RequiredHeader != "" {
			allowed += ", " + v.config.RequiredHeader
		}
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", allowed)
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	})
}

// metadataPath is the well-known prefix of RFC 9728 §3.1.
const metadataPath = "/.well-known/oauth-protected-resource"

// describe prepares the protected resource's metadata (RFC 9728 §2) and where
// it is. It has an address only if the audience is one.
func (v *Verifier) describe() (address string, body []byte) {
	u, err := url.Parse(v.config.Audience)
	if err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && v.config.Development) && u.RawQuery == "" {
		address = u.Scheme + "://" + u.Host + metadataPath + strings.TrimSuffix(u.EscapedPath(), "/")
	}
	body, err = json.Marshal(struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Methods  []string `json:"bearer_methods_supported"`
		Scopes   []string `json:"scopes_supported,omitempty"`
	}{v.config.Audience, []string{v.config.Issuer}, []string{"header"}, v.config.Scopes})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return address, body
}

// MetadataPath is where Metadata belongs: it ends with the audience's path.
func (v *Verifier) MetadataPath() string {
	if u, err := url.Parse(v.metadata); err == nil && v.metadata != "" {
		return u.Path
	}
	return metadataPath
}

// Metadata serves the protected resource's metadata (RFC 9728 §3), from which
// a client learns where to log in. Mount it at MetadataPath.
func (v *Verifier) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("Access-Control-Allow-Origin", "*")
		w.Write(v.body)
	})
}
