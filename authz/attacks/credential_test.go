package attacks

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// secretive registers a client with a secret.
func secretive(t *testing.T, s *authztest.Server) (clients.Client, string) {
	t.Helper()
	c := clients.Client{
		ID: "secretive", AuthMethod: clients.SecretBasic, RedirectURIs: []clients.RedirectURI{"https://app.example.com/callback"},
		Audiences: []string{authztest.Audience}, Scopes: []string{"openid", "notes:read"}, GrantTypes: []string{"authorization_code", "client_credentials"},
	}
	secret, err := c.NewSecret(rand.Reader)
	check(t, err)
	return s.AddClient(c), secret
}

// TestWrongCredentials: each client by its own way, with its own credential, and
// with one.
func TestWrongCredentials(t *testing.T) {
	s := authztest.New(t)
	_, secret := secretive(t, s)
	c, signer := backend(s, nil)
	plain := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	own := url.Values{"grant_type": {"client_credentials"}}
	for name, authorization := range map[string]string{
		"the secret": plain("secretive", secret), "form-encoded": basic("secretive", secret),
		"percent-encoded": plain("%73ecretive", strings.ReplaceAll(secret, "_", "%5F")), "scheme in lower case": "basic " + plain("secretive", secret)[6:],
	} {
		if got := post(t, s, "/token", own, "Authorization", authorization); got.Status != http.StatusOK {
			t.Fatalf("%s: %+v", name, got)
		}
	}
	for name, c := range map[string]struct {
		form    url.Values
		headers []string
	}{
		"an empty secret":                {own, []string{"Authorization", plain("secretive", "")}},
		"no colon":                       {own, []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("secretive"))}},
		"an empty user name":             {with(own, "client_id", "secretive"), []string{"Authorization", plain("", secret)}},
		"both empty":                     {with(own, "client_id", "secretive"), []string{"Authorization", plain("", "")}},
		"a NUL in the name":              {own, []string{"Authorization", plain("secretive%00", secret)}},
		"a NUL in the secret":            {own, []string{"Authorization", plain("secretive", secret+"%00")}},
		"bad percent-encoding":           {own, []string{"Authorization", plain("secretive%zz", secret)}},
		"cut percent-encoding":           {own, []string{"Authorization", plain("secretive", secret+"%")}},
		"encoded twice":                  {own, []string{"Authorization", plain("%2573ecretive", secret)}},
		"a space":                        {own, []string{"Authorization", plain("secretive ", secret)}},
		"upper case":                     {own, []string{"Authorization", plain("Secretive", secret)}},
		"no UTF-8":                       {own, []string{"Authorization", plain("secretive\xff", secret)}},
		"a huge name":                    {own, []string{"Authorization", plain(strings.Repeat("x", 6000), secret)}},
		"the hash of the secret":         {own, []string{"Authorization", plain("secretive", strings.Repeat("\x00", 32))}},
		"no base64":                      {own, []string{"Authorization", "Basic !"}},
		"no credential in it":            {own, []string{"Authorization", "Basic"}},
		"an empty header":                {with(own, "client_id", "secretive"), []string{"Authorization", ""}},
		"another scheme":                 {own, []string{"Authorization", "Bearer " + secret}},
		"two headers":                    {own, []string{"Authorization", plain("secretive", secret), "Authorization", plain("secretive", secret)}},
		"a second, empty header":         {own, []string{"Authorization", plain("secretive", secret), "Authorization", ""}},
		"another client_id":              {with(own, "client_id", "backend"), []string{"Authorization", plain("secretive", secret)}},
		"another user name":              {with(own, "client_id", "secretive"), []string{"Authorization", plain("backend", secret)}},
		"the public client_id":           {with(own, "client_id", "spa"), []string{"Authorization", plain("secretive", secret)}},
		"an unknown client_id":           {with(own, "client_id", "nobody"), []string{"Authorization", plain("secretive", secret)}},
		"the backend's, by secret":       {own, []string{"Authorization", plain("backend", secret)}},
		"the backend's, empty secret":    {own, []string{"Authorization", plain("backend", "")}},
		"the public one's, empty secret": {own, []string{"Authorization", plain("spa", "")}},
		"in the body":                    {with(own, "client_id", "secretive", "client_secret", secret), nil},
		"in the body, empty":             {url.Values{"grant_type": {"client_credentials"}, "client_id": {"spa"}, "client_secret": {""}}, nil},
		"none":                           {with(own, "client_id", "secretive"), nil},
		"none of the backend":            {with(own, "client_id", "backend"), nil},
		"the secret's by assertion":      {signer.Sign(with(own), "secretive", nil), nil},
		"the public one's by assertion":  {signer.Sign(with(own), "spa", nil), nil},
		"an assertion, another id":       {with(signer.Sign(with(own), c.ID, nil), "client_id", "spa"), nil},
		"an assertion, the secret's id":  {with(signer.Sign(with(own), c.ID, nil), "client_id", "secretive"), nil},
		"no assertion type":              {with(signer.Sign(with(own), c.ID, nil), "client_assertion_type", ""), nil},
		"another assertion type":         {with(signer.Sign(with(own), c.ID, nil), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), nil},
		"the type alone":                 {with(signer.Sign(with(own), c.ID, nil), "client_assertion", ""), nil},
	} {
		got := post(t, s, "/token", c.form, c.headers...)
		if got.Error != "invalid_client" || got.AccessToken != "" || got.Status != http.StatusUnauthorized && got.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", name, got)
		}
		if len(c.headers) > 0 && got.Status == http.StatusUnauthorized && got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without a challenge", name)
		}
		if strings.Contains(got.Description, "secretive") {
			t.Errorf("%s: %s", name, got.Description)
		}
	}
	for name, form := range map[string]url.Values{
		"an assertion":         signer.Sign(with(own), c.ID, nil),
		"its type":             with(own, "client_assertion_type", jwtBearer),
		"a secret in the body": with(own, "client_secret", secret),
	} {
		if got := post(t, s, "/token", form, "Authorization", plain("secretive", secret)); got.Error != "invalid_request" || got.AccessToken != "" {
			t.Errorf("%s beside the Authorization header: %+v", name, got)
		}
	}
	// What is wrong for one endpoint is wrong for all.
	for path, form := range map[string]url.Values{"/par": s.Authorization("client_id", "secretive", "redirect_uri", "https://app.example.com/callback", "scope", "openid"), "/revoke": {"client_id": {"secretive"}, "token": {"x"}}} {
		if got := post(t, s, path, form, "Authorization", plain("secretive", secret)); got.Status/100 != 2 {
			t.Errorf("the secret at %s: %+v", path, got)
		}
		if got := post(t, s, path, form); got.Error != "invalid_client" {
			t.Errorf("none at %s: %+v", path, got)
		}
	}
	noSecrets(t, s, map[string]string{"secret": secret})
}

// TestWithdrawnCredential: a client's own token comes of no grant, whose record
// would tell that the client was changed. Yet what was withdrawn a moment ago
// is worth nothing.
func TestWithdrawnCredential(t *testing.T) {
	for name, withdraw := range map[string]func(*testing.T, *authztest.Server, *clients.Client){
		"another secret": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			_, err := c.NewSecret(rand.Reader)
			check(t, err)
			check(t, s.Store.UpdateClient(t.Context(), *c))
		},
		"no such grant": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.GrantTypes = []string{"authorization_code"}
			check(t, s.Store.UpdateClient(t.Context(), *c))
		},
		"less scope": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.Scopes = []string{"openid"}
			check(t, s.Store.UpdateClient(t.Context(), *c))
		},
		"hardened": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.RequireDPoP = true
			check(t, s.Store.UpdateClient(t.Context(), *c))
		},
		"disabled": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			check(t, s.Revoker.DisableClient(t.Context(), c.ID))
		},
		"removed": func(t *testing.T, s *authztest.Server, c *clients.Client) {
			check(t, s.Revoker.RemoveClient(t.Context(), c.ID))
		},
	} {
		s := authztest.New(t)
		c, secret := secretive(t, s)
		ask := func() authztest.Tokens {
			return post(t, s, "/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"notes:read"}}, "Authorization", basic("secretive", secret))
		}
		if got := ask(); got.Status != http.StatusOK {
			t.Fatalf("the honest request: %+v", got)
		}
		c, err := s.Store.Client(t.Context(), c.ID)
		check(t, err)
		withdraw(t, s, &c) // in the same second
		if got := ask(); got.Status == http.StatusOK || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestResourceServersCredentialIsNoClients, and the other way round, even where
// the two bear one name and have one key.
func TestResourceServersCredentialIsNoClients(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, nil)
	_, secret := secretive(t, s)
	api := s.Signer()
	check(t, s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: "api", Audience: authztest.Audience, AuthMethod: clients.PrivateKeyJWT, JWKS: api.JWKS}))
	token := s.SignIn("alice").AccessToken
	introspect := func(form url.Values, headers ...string) string {
		return s.Body(request(t, "POST", s.URL+"/introspect", with(form, "token", token), headers...))
	}
	form := api.Sign(url.Values{}, "api", nil)
	if body := introspect(form); !strings.HasPrefix(body, `{"active":true`) {
		t.Fatalf("the honest question: %s", body)
	}
	for name, body := range map[string]string{
		"the same assertion":        introspect(form),
		"a client's assertion":      introspect(signer.Sign(url.Values{}, c.ID, nil)),
		"a client's secret":         introspect(url.Values{}, "Authorization", basic("secretive", secret)),
		"a public client":           introspect(url.Values{"client_id": {"spa"}}),
		"nobody":                    introspect(url.Values{}),
		"a person's token":          introspect(url.Values{}, "Authorization", "Bearer "+token),
		"an empty secret":           introspect(url.Values{}, "Authorization", basic("api", "")),
		"assertion for another":     introspect(api.Sign(url.Values{}, "api", map[string]any{"aud": "https://evil.net"})),
		"assertion for /introspect": introspect(api.Sign(url.Values{}, "api", map[string]any{"aud": s.URL + "/introspect"})),
		"a client signs for it":     introspect(signer.Sign(url.Values{}, "api", nil)),
		"an expired assertion":      introspect(api.Sign(url.Values{}, "api", map[string]any{"exp": s.Clock.Now().Add(-time.Second).Unix()})),
	} {
		if !strings.Contains(body, "invalid_client") || strings.Contains(body, "active") {
			t.Errorf("%s: %s", name, body)
		}
	}
	if got := post(t, s, "/token", api.Sign(url.Values{"grant_type": {"client_credentials"}}, "api", nil)); got.Error != "invalid_client" {
		t.Errorf("a resource server asks for a token: %+v", got)
	}
	// A token in the query, or one too many, is no question.
	r := request(t, "POST", s.URL+"/introspect?token="+token, api.Sign(url.Values{}, "api", nil))
	if body := s.Body(r); !strings.Contains(body, "invalid_request") {
		t.Errorf("a token in the query: %s", body)
	}
	twice := api.Sign(url.Values{"token": {token, token}}, "api", nil)
	if body := s.Body(request(t, "POST", s.URL+"/introspect", twice)); !strings.Contains(body, "invalid_request") {
		t.Errorf("two tokens: %s", body)
	}
}
