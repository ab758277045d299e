package verify

import (
	"net/http"
	"slices"
)

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
			h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, DPoP-Nonce, RateLimit, RateLimit-Policy")
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if !known {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		allowed := "Authorization, Content-Type, DPoP"
		if v.config.RequiredHeader != "" {
			allowed += ", " + v.config.RequiredHeader
		}
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", allowed)
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	})
}
