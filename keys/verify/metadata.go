package verify

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/solegate/solegate/keys/verify/dpop"
)

// metadataPath is the well-known prefix of RFC 9728 §3.1.
const metadataPath = "/.well-known/oauth-protected-resource"

// describe prepares the protected resource's metadata (RFC 9728 §2) and where
// it is. It has an address only if the audience is one.
func (v *Verifier) describe() (address string, body []byte) {
	u, err := url.Parse(v.config.Audience)
	if err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && v.config.Development) && u.RawQuery == "" {
		address = u.Scheme + "://" + u.Host + metadataPath + strings.TrimSuffix(u.EscapedPath(), "/")
	}
	m := struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Methods  []string `json:"bearer_methods_supported"` // [] for none
		Scopes   []string `json:"scopes_supported,omitempty"`
		DPoP     []string `json:"dpop_signing_alg_values_supported,omitempty"`
		Bound    bool     `json:"dpop_bound_access_tokens_required,omitempty"`
	}{v.config.Audience, []string{v.config.Issuer}, []string{"header"}, v.config.Scopes, nil, v.config.RequireDPoP}
	if v.config.RequireDPoP {
		m.Methods = []string{}
	}
	if v.config.PublicURL != "" {
		m.DPoP = dpop.Algorithms()
	}
	body, err = json.Marshal(m)
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
