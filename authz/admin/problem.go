package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
)

// Problem is an error as it is answered (RFC 9457). Detail is fixed text: it
// never holds anything that was sent. Its type is about:blank, so its title is
// the status in words.
type Problem struct {
	Status int
	Detail string
	// Cause goes to the log and never to the network.
	Cause error
}

// Error returns the status, the detail and the cause: for the log.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%d: %s", p.Status, p.Detail)
	if p.Cause != nil {
		s += ": " + p.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

func refusef(status int, detail, format string, args ...any) *Problem {
	return &Problem{status, detail, fmt.Errorf(format, args...)}
}

// problem translates an error of ours. What is not known to be anything else is
// the store's: nothing may be said about it but that it can be tried again.
func problem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, revocation.ErrNotRecorded):
		return &Problem{http.StatusServiceUnavailable, "It is done, and the audit log may not have it: do it again.", err}
	case errors.Is(err, storage.ErrNotFound):
		return &Problem{http.StatusNotFound, "There is none by that identifier.", err}
	case errors.Is(err, storage.ErrConflict):
		return &Problem{http.StatusConflict, "It was changed by somebody else at this moment: look at it and try again.", err}
	case errors.Is(err, storage.ErrUnknown):
		return &Problem{http.StatusServiceUnavailable, "It may have been done, or not: do it again.", err}
	}
	return &Problem{http.StatusServiceUnavailable, "The server can't do this now; try again.", err}
}

// refuse answers err, and logs its cause under the request id that the answer
// carries. who is the operator, empty if it is none.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, who string, err error) {
	p := problem(err)
	level := slog.LevelInfo
	if p.Status >= 500 {
		level = slog.LevelError
	}
	cause := ""
	if p.Cause != nil {
		cause = p.Cause.Error()
	}
	id := a.RequestID(r)
	a.Log.LogAttrs(r.Context(), level, "operator's request refused",
		slog.String("operator", who), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", p.Status), slog.String("cause", cause), slog.String("request", id))
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Request-Id", id)
	if p.Status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	w.Write(marshal(struct {
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}{http.StatusText(p.Status), p.Status, p.Detail, id}))
}
