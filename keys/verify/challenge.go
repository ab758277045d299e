package verify

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/solegate/solegate/keys/verify/dpop"
)

// The authentication schemes of RFC 6750 §2.1 and RFC 9449 §7.1.
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

// authScheme returns the scheme of the request's first Authorization header,
// or "" if it is none of ours.
func authScheme(r *http.Request) string {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, schemeBearer):
		return schemeBearer
	case strings.EqualFold(scheme, schemeDPoP):
		return schemeDPoP
	}
	return ""
}

// parameter is one of a challenge. No value needs escapes.
type parameter struct{ name, value string }

// Refuse answers a request that VerifyRequest refused with err, by RFC 6750 §3
// and RFC 9449 §7.1. Nothing that the caller sent is in it.
//
// Who came without a token is told each scheme that there is, in a line of its
// own. Who came with one is told the error in a challenge of the scheme it
// used; only the error invalid_token for Bearer names DPoP too, as the token may
// be one that is bound. So a client that uses DPoP finds one challenge to look
// for use_dpop_nonce in. Lines of their own are for clients that read the first
// one only; fetch joins them, and oauth4webapi reads that.
func (v *Verifier) Refuse(w http.ResponseWriter, r *http.Request, err error, scopes ...string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if v.nonces != nil {
		h.Set("DPoP-Nonce", v.nonces.Current(v.config.Now()))
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Code: "server_error", Description: "The request can't be checked.", Status: http.StatusInternalServerError, Cause: err}
	}
	if e.Code == "" {
		var scope []parameter
		if len(scopes) > 0 {
			scope = []parameter{{"scope", strings.Join(scopes, " ")}}
		}
		for _, scheme := range v.schemes() {
			h.Add("WWW-Authenticate", v.challenge(scheme, scope))
		}
		w.WriteHeader(e.Status)
		return
	}
	v.config.Log.InfoContext(r.Context(), "request refused", "path", r.URL.Path, "error", e.Code, "cause", e.Cause)
	if e.Status >= http.StatusInternalServerError {
		h.Set("Retry-After", "1")
	} else {
		schemes := v.schemes()
		used := schemes[0]
		if authScheme(r) == schemeDPoP {
			used = schemes[len(schemes)-1]
		}
		h.Add("WWW-Authenticate", v.challenge(used, append([]parameter{{"error", e.Code}, {"error_description", e.Description}}, e.parameters...)))
		if other := schemes[len(schemes)-1]; other != used && e.Code == "invalid_token" {
			h.Add("WWW-Authenticate", v.challenge(other, nil))
		}
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(map[string]string{"error": e.Code, "error_description": e.Description})
}

// schemes returns what is accepted: Bearer, DPoP, or both in this order.
func (v *Verifier) schemes() []string {
	switch {
	case v.config.RequireDPoP:
		return []string{schemeDPoP}
	case v.config.PublicURL != "":
		return []string{schemeBearer, schemeDPoP}
	}
	return []string{schemeBearer}
}

// challenge writes a challenge (RFC 9110 §11.6.1).
func (v *Verifier) challenge(scheme string, parameters []parameter) string {
	var b strings.Builder
	b.WriteString(scheme)
	separator := " "
	add := func(name, value string) {
		b.WriteString(separator + name + `="` + value + `"`)
		separator = ", "
	}
	if scheme == schemeDPoP {
		add("algs", strings.Join(dpop.Algorithms(), " "))
	}
	if v.metadata != "" {
		add("resource_metadata", v.metadata)
	}
	for _, p := range parameters {
		add(p.name, p.value)
	}
	return b.String()
}
