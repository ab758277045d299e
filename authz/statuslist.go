package authz

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/statuslist"
)

// statusList serves a Token Status List (draft-ietf-oauth-status-list-21 §8.1)
// to anybody who knows its address, which is in the tokens. What is asked for by
// a made-up address costs a MAC.
func (s *Server) statusList(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["X-Content-Type-Options"] = noSniff
	if r.URL.RawQuery != "" && r.URL.Query().Has("time") {
		// How things stood is nobody's business (§8.4, §12.6).
		s.status(w, http.StatusNotImplemented, "status lists of the past are not kept")
		return
	}
	d, err := s.statuses.Get(r.Context(), r.PathValue("list"))
	if errors.Is(err, statuslist.ErrUnknown) {
		s.status(w, http.StatusNotFound, "there is no such status list")
		return
	} else if err != nil {
		s.refuseJSON(w, r, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err})
		return
	}
	h["Vary"] = vary
	if !accepts(r.Header["Accept"]) {
		s.status(w, http.StatusNotAcceptable, statuslist.MediaType+" is what there is")
		return
	}
	h["Cache-Control"] = statusCache
	h["Etag"] = []string{d.ETag}
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	if seen := r.Header["If-None-Match"]; len(seen) > 0 && strings.Contains(seen[0], d.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Type"] = statusType
	h["Content-Length"] = []string{strconv.Itoa(len(d.JWS))}
	if r.Method != http.MethodHead {
		w.Write([]byte(d.JWS))
	}
}

var (
	statusType = []string{statuslist.MediaType}
	vary       = []string{"Accept"}
	// A cache in between adds its second to the time that a reader keeps a list.
	statusCache = []string{"public, max-age=1"}
)

// accepts reports whether a list in the form of a JWT may be the answer (RFC
// 9110 §12.5.1): also for whoever names nothing that can be read.
func accepts(headers []string) bool {
	named := false
	for _, header := range headers {
		for item := range strings.SplitSeq(header, ",") {
			media, parameters, _ := strings.Cut(strings.ToLower(item), ";")
			media = strings.TrimSpace(media)
			if !strings.Contains(media, "/") {
				continue
			}
			named = true
			if (media == statuslist.MediaType || media == "application/*" || media == "*/*") && !refused(parameters) {
				return true
			}
		}
	}
	return !named
}

// refused reports whether the parameters of a media range have a weight of 0.
func refused(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		if q, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			weight, err := strconv.ParseFloat(q, 64)
			return err == nil && weight == 0
		}
	}
	return false
}
