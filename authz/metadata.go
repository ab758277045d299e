package authz

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/keys/verify/dpop"
)

// metadata is what the server says of itself (RFC 8414 §2, OpenID Connect
// Discovery §3). Both well-known addresses serve the same bytes. It names only
// what works.
type metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	PAREndpoint           string   `json:"pushed_authorization_request_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	IntrospectionEndpoint string   `json:"introspection_endpoint"`
	FeedEndpoint          string   `json:"solegate_feed_endpoint"` // see keys/verify/feed
	UserinfoEndpoint      string   `json:"userinfo_endpoint"`
	EndSessionEndpoint    string   `json:"end_session_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	Scopes                []string `json:"scopes_supported"`
	Claims                []string `json:"claims_supported"`
	Subjects              []string `json:"subject_types_supported"`
	Prompts               []string `json:"prompt_values_supported"`
	ACRs                  []string `json:"acr_values_supported"`
	CodeChallengeMethods  []string `json:"code_challenge_methods_supported"`
	IDTokenAlgs           []string `json:"id_token_signing_alg_values_supported"`
	TokenAuth             []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs         []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth        []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs    []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAuthAlgs []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	DPoPAlgs              []string `json:"dpop_signing_alg_values_supported"`
	IssParameter          bool     `json:"authorization_response_iss_parameter_supported"`
	ClaimsParameter       bool     `json:"claims_parameter_supported"`
	RequestParameter      bool     `json:"request_parameter_supported"`
	RequestURIParameter   bool     `json:"request_uri_parameter_supported"`
	BackchannelLogout     bool     `json:"backchannel_logout_supported"`
	BackchannelSession    bool     `json:"backchannel_logout_session_supported"`
	RequirePAR            bool     `json:"require_pushed_authorization_requests"`
}

// document is a prepared answer.
type document struct {
	body   []byte
	etag   []string
	length []string
}

func prepare(body []byte) document {
	sum := sha256.Sum256(body)
	return document{body, []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}, []string{strconv.Itoa(len(body))}}
}

func (s *Server) prepareMetadata() document {
	confidential := []string{string(clients.SecretBasic), string(clients.PrivateKeyJWT)}
	anybody := append([]string{string(clients.None)}, confidential...)
	return prepare(marshal(metadata{
		Issuer:                s.Issuer,
		AuthorizationEndpoint: s.Issuer + "/authorize",
		TokenEndpoint:         s.Issuer + "/token",
		PAREndpoint:           s.Issuer + "/par",
		RevocationEndpoint:    s.Issuer + "/revoke",
		IntrospectionEndpoint: s.Issuer + "/introspect",
		FeedEndpoint:          s.Issuer + "/feed",
		UserinfoEndpoint:      s.Issuer + "/userinfo",
		EndSessionEndpoint:    s.Issuer + "/logout",
		JWKSURI:               s.Issuer + "/jwks",
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            provider.GrantTypes(),
		Scopes:                []string{oauth.OpenID, oauth.Profile, oauth.Email, oauth.OfflineAccess},
		Claims:                []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid", "name", "preferred_username", "updated_at", "email", "email_verified"},
		Subjects:              []string{"public"},
		Prompts:               []string{"none", "login", "consent", "select_account"},
		ACRs:                  []string{login.ACRPassword},
		CodeChallengeMethods:  []string{"S256"},
		IDTokenAlgs:           []string{string(keys.RS256), string(keys.ES256), string(keys.PS256), string(keys.EdDSA)},
		TokenAuth:             anybody,
		TokenAuthAlgs:         clients.AssertionAlgs(),
		RevocationAuth:        anybody,
		RevocationAuthAlgs:    clients.AssertionAlgs(),
		IntrospectionAuth:     confidential,
		IntrospectionAuthAlgs: clients.AssertionAlgs(),
		DPoPAlgs:              dpop.Algorithms(),
		IssParameter:          true,
		BackchannelLogout:     true,
		BackchannelSession:    true,
	}))
}

var publicCache = []string{"public, max-age=300"}

// serve answers with d, which anybody may read and keep for five minutes, or
// says that it has not changed.
func (d document) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Cache-Control"] = publicCache
	h["Etag"] = d.etag
	h["X-Content-Type-Options"] = noSniff
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	if seen := r.Header["If-None-Match"]; len(seen) > 0 && (seen[0] == "*" || strings.Contains(seen[0], d.etag[0])) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Type"] = jsonType
	h["Content-Length"] = d.length
	if r.Method != http.MethodHead {
		w.Write(d.body)
	}
}

var crossOrigin = []string{"cross-origin"}

func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) { s.metadata.serve(w, r) }

// jwks serves the public keys (RFC 7517 §5). APIs keep them for five minutes;
// a key is published long before it signs.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	set, prepared := s.Ring.JWKS(), s.keySet.Load()
	if prepared == nil || prepared.etag[0] != set.ETag {
		prepared = &document{set.Body, []string{set.ETag}, []string{strconv.Itoa(len(set.Body))}}
		s.keySet.Store(prepared)
	}
	prepared.serve(w, r)
}
