package authz

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/solegate/solegate/authz/feed"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	wire "github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
)

// feedStream is the revocation feed as a stream (see keys/verify/feed). A
// registered resource server asks, with its own credential, and gets what
// concerns its own audience.
func (s *Server) feedStream(w http.ResponseWriter, r *http.Request) {
	rs, cursor, err := s.follower(w, r)
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	stream, err := s.feed.Subscribe(r.Context(), rs.Audience, cursor)
	if err != nil {
		s.refuseJSON(w, r, feedError(err))
		return
	}
	// A stream lives for weeks, a credential may not: whatever is changed about
	// the resource server ends it, and who still may comes again.
	stream.Serve(w, r, func(ctx context.Context) bool {
		now, err := s.Store.ResourceServer(ctx, rs.ID)
		return err == nil && now.Version == rs.Version || errors.Is(err, storage.ErrUnavailable)
	})
}

// feedSnapshot is the revocation feed for those that poll, and for whoever
// begins: a page of what counts.
func (s *Server) feedSnapshot(w http.ResponseWriter, r *http.Request) {
	rs, cursor, err := s.follower(w, r)
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	page, err := s.feed.Snapshot(r.Context(), rs.Audience, cursor)
	if err != nil {
		s.refuseJSON(w, r, feedError(err))
		return
	}
	h := w.Header()
	h["Cache-Control"] = []string{"private, max-age=1"}
	h["Vary"] = []string{"Authorization"}
	h["Etag"] = []string{page.ETag}
	h["X-Content-Type-Options"] = noSniff
	if seen := r.Header["If-None-Match"]; len(seen) > 0 && strings.Contains(seen[0], page.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Type"] = []string{wire.SnapshotMediaType}
	h["Content-Length"] = []string{strconv.Itoa(len(page.JWS))}
	if r.Method != http.MethodHead {
		w.Write([]byte(page.JWS))
	}
}

// follower authenticates the resource server that asks for the feed, and reads
// where it wants to go on.
func (s *Server) follower(w http.ResponseWriter, r *http.Request) (clients.ResourceServer, wire.Cursor, error) {
	t := &tokenRequest{w: w, r: r}
	var rs clients.ResourceServer
	read := s.postedForm
	if r.Method != http.MethodPost {
		read = s.queried
	}
	err := read(t)
	if err == nil {
		err = s.presented(t)
	}
	if err == nil {
		rs, err = s.resourceServer(t)
	}
	if err == nil {
		err = s.assertedOnce(t)
	}
	if err != nil {
		return rs, "", err
	}
	cursor := wire.Cursor(t.form.Get(wire.CursorParameter))
	if !t.form.Has(wire.CursorParameter) {
		// How a reader of server-sent events that knows nothing of ours goes on.
		cursor = wire.Cursor(r.Header.Get("Last-Event-ID"))
	}
	if !cursor.Valid() {
		return rs, "", oauth.Errorf(oauth.InvalidRequest, "The cursor is malformed.", "cursor %.80q", cursor)
	}
	return rs, cursor, nil
}

// queried reads the parameters of a GET. No credential belongs there: URLs are
// logged.
func (s *Server) queried(t *tokenRequest) error {
	form, err := url.ParseQuery(t.r.URL.RawQuery)
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "The query is malformed.", "%w", err)
	}
	for name, values := range form {
		if name != wire.CursorParameter || len(values) > 1 {
			return oauth.Errorf(oauth.InvalidRequest, "Only a cursor belongs in the query, once.", "parameter %.40q in the query, %d times", name, len(values))
		}
	}
	t.form = form
	return nil
}

// feedError is what the network is told.
func feedError(err error) error {
	if errors.Is(err, feed.ErrCursor) {
		refusal := oauth.Errorf(oauth.InvalidRequest, "The cursor is not known, or too old: begin with a snapshot.", "%w", err)
		refusal.Status = http.StatusGone
		return refusal
	}
	return &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
}
