package authz

import (
	"net/http"

	"github.com/solegate/solegate/storage"
)

// allowOrigin lets a page of a registered origin read the answer. The answer
// differs by origin, so no cache may mix them up.
func allowOrigin(w http.ResponseWriter, origin string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate, X-Request-Id, Retry-After")
}

// preflight answers a browser that asks whether a page may call /token, /par,
// /revoke or /userinfo. It does not say for which client, so any enabled
// client's origin will do; the request itself is held to its own client's.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Origin")
	origin := r.Header.Get("Origin")
	known, err := s.knownOrigin(r, origin)
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	if !known {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	h := w.Header()
	allowOrigin(w, origin)
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) knownOrigin(r *http.Request, origin string) (bool, error) {
	if origin == "" || origin == "null" {
		return false, nil
	}
	for page := (storage.Page{Limit: 100}); ; {
		list, err := s.Store.ListClients(r.Context(), page)
		if err != nil {
			return false, err
		}
		for _, c := range list {
			if !c.Disabled && c.HasOrigin(origin) {
				return true, nil
			}
		}
		if len(list) < page.Limit {
			return false, nil
		}
		page.After = string(list[len(list)-1].ID)
	}
}

// preflightPublic answers for documents that anybody may read.
func (s *Server) preflightPublic(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h.Set("Access-Control-Allow-Methods", "GET")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}
