package authz

import (
	"io"
	"net/http"

	"github.com/solegate/solegate/authz/pages"
)

func (s *Server) status(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

// ready tells a load balancer whether this server can do its work now.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.Store.Ready(r.Context()); err != nil {
		s.log.Error("not ready", "error", err)
		w.Header().Set("Retry-After", "1")
		s.status(w, http.StatusServiceUnavailable, "storage unavailable")
		return
	}
	s.status(w, http.StatusOK, "ok")
}

// index says where one is, to a person who came by the address alone.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	s.pages.Write(w, s.headers(), http.StatusOK, pages.Index{Issuer: s.Issuer})
}
