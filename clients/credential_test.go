package clients_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/solegate/solegate/clients"
)

// backend is a confidential client that signs, without a browser part.
func backend(t testing.TB) clients.Client {
	c := good()
	c.ID, c.AuthMethod, c.Origins = "backend", clients.PrivateKeyJWT, nil
	c.JWKS = json.RawMessage(set(public(t, signers().ec.Public())))
	return c
}

func TestValidateConfidential(t *testing.T) {
	ec := public(t, signers().ec.Public())
	secret := func(c *clients.Client) {
		c.AuthMethod, c.JWKS, c.SecretHash = clients.SecretBasic, nil, [32]byte{1}
	}
	machine := func(c *clients.Client) { // nobody logs in
		c.GrantTypes, c.RedirectURIs = []string{"client_credentials"}, nil
	}
	type change = func(*clients.Client)
	both := func(changes ...change) change {
		return func(c *clients.Client) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	for name, change := range map[string]change{
		"private_key_jwt":    func(*clients.Client) {},
		"a secret":           secret,
		"with a page":        func(c *clients.Client) { c.Origins = good().Origins },
		"client_credentials": machine,
		"all grants": func(c *clients.Client) {
			c.GrantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}
		},
		"no refresh":          func(c *clients.Client) { c.GrantTypes = []string{"authorization_code"} },
		"hardened":            func(c *clients.Client) { c.Profile = clients.Hardened },
		"hardened machine":    both(machine, func(c *clients.Client) { c.Profile = clients.Hardened }),
		"PKCE left to it":     both(secret, func(c *clients.Client) { c.OptionalPKCE = true }),
		"required one by one": func(c *clients.Client) { c.RequirePAR, c.RequireDPoP, c.RequireDPoPNonce = true, true, true },
		"logout URI":          func(c *clients.Client) { c.BackchannelLogoutURI = "https://app.example.com" },
		"logout URI, anything": func(c *clients.Client) {
			c.BackchannelLogoutURI = "https://app.example.com:8443/a//b/../c?code=1&x=%2f"
		},
	} {
		c := backend(t)
		change(&c)
		if _, err := c.Validate(false); err != nil || c.Development {
			t.Errorf("%s: development %t, %v", name, c.Development, err)
		}
	}
	for name, c := range map[string]struct {
		change change
		fields []string // a mistake for each
	}{
		"unknown method":          {func(c *clients.Client) { c.AuthMethod = "client_secret_post" }, []string{"auth_method"}},
		"unknown profile":         {func(c *clients.Client) { c.Profile = "fapi" }, []string{"profile"}},
		"unknown grant":           {func(c *clients.Client) { c.GrantTypes = []string{"authorization_code", "implicit"} }, []string{"grant_type"}},
		"grant twice":             {func(c *clients.Client) { c.GrantTypes = []string{"authorization_code", "authorization_code"} }, []string{"grant_type"}},
		"refresh of nothing":      {func(c *clients.Client) { c.GrantTypes = []string{"refresh_token", "client_credentials"} }, []string{"grant_type"}},
		"machine asks for openid": {both(machine, func(c *clients.Client) { c.Scopes = []string{"openid", "offline_access"} }), []string{"scope", "scope"}},
		"no redirect URI":         {func(c *clients.Client) { c.RedirectURIs = nil }, []string{"redirect_uri"}},
		"no key set":              {func(c *clients.Client) { c.JWKS = nil }, []string{"jwks"}},
		"two bad keys": {func(c *clients.Client) {
			c.JWKS = json.RawMessage(set(ec.with("kid", "a", "use", "enc"), ec.with("kid", "b", "alg", "x")))
		}, []string{"jwks", "jwks"}},
		"a secret, too":            {func(c *clients.Client) { c.SecretHash[0] = 1 }, []string{"secret"}},
		"no secret":                {both(secret, func(c *clients.Client) { c.SecretHash = [32]byte{} }), []string{"secret"}},
		"keys beside a secret":     {func(c *clients.Client) { c.AuthMethod, c.SecretHash = clients.SecretBasic, [32]byte{1} }, []string{"jwks"}},
		"hardened with a secret":   {both(secret, func(c *clients.Client) { c.Profile = clients.Hardened }), []string{"profile"}},
		"hardened with RS256":      {func(c *clients.Client) { c.Profile, c.IDTokenAlg = clients.Hardened, "RS256" }, []string{"id_token_alg"}},
		"http logout URI":          {func(c *clients.Client) { c.BackchannelLogoutURI = "http://app.example.com/" }, []string{"backchannel_logout_uri"}},
		"http loopback logout URI": {func(c *clients.Client) { c.BackchannelLogoutURI = "http://127.0.0.1/" }, []string{"backchannel_logout_uri"}},
		"logout URI with fragment": {func(c *clients.Client) { c.BackchannelLogoutURI = "https://app.example.com/#" }, []string{"backchannel_logout_uri"}},
		"logout URI with user":     {func(c *clients.Client) { c.BackchannelLogoutURI = "https://u:p@app.example.com/" }, []string{"backchannel_logout_uri"}},
		"relative logout URI":      {func(c *clients.Client) { c.BackchannelLogoutURI = "/logout" }, []string{"backchannel_logout_uri"}},
		"logout URI of a file":     {func(c *clients.Client) { c.BackchannelLogoutURI = "file:///etc/passwd" }, []string{"backchannel_logout_uri"}},

		// A public client has none of it.
		"public with a secret":      {func(c *clients.Client) { *c = good(); c.SecretHash[0] = 1 }, []string{"secret"}},
		"public with keys":          {func(c *clients.Client) { c.AuthMethod, c.Origins = "", good().Origins }, []string{"jwks"}},
		"public without PKCE":       {func(c *clients.Client) { *c = good(); c.OptionalPKCE = true }, []string{"optional_pkce"}},
		"public client_credentials": {func(c *clients.Client) { *c = good(); c.GrantTypes = []string{"client_credentials"} }, []string{"grant_type"}},
		"public without origin":     {func(c *clients.Client) { *c = good(); c.AuthMethod = clients.None; c.Origins = nil }, []string{"origin"}},
	} {
		client := backend(t)
		c.change(&client)
		_, err := client.Validate(false)
		var fields []string
		for _, err := range wrapped(err) {
			if field, ok := errors.AsType[*clients.FieldError](err); ok {
				fields = append(fields, field.Field)
			}
		}
		if !slices.Equal(fields, c.fields) {
			t.Errorf("%s: mistakes in %q, want %q: %v", name, fields, c.fields, err)
		}
	}
}

// wrapped are the errors that were joined.
func wrapped(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

func TestHardenedPublicClientIsFine(t *testing.T) {
	c := good()
	c.Profile, c.AuthMethod = clients.Hardened, clients.None
	if _, err := c.Validate(false); err != nil || c.Confidential() || !c.MustPush() || !c.MustProve() || !c.MustHaveNonce() || c.MayOmitPKCE() {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhoMayComeWithoutPKCE(t *testing.T) {
	for name, c := range map[string]struct {
		client clients.Client
		want   bool
	}{
		"a backend that says so": {clients.Client{OptionalPKCE: true, AuthMethod: clients.SecretBasic}, true},
		"one that does not":      {clients.Client{AuthMethod: clients.SecretBasic}, false},
		"a hardened one":         {clients.Client{OptionalPKCE: true, AuthMethod: clients.PrivateKeyJWT, Profile: clients.Hardened}, false},
		"a public client":        {clients.Client{OptionalPKCE: true}, false},
		"that says it is one":    {clients.Client{OptionalPKCE: true, AuthMethod: clients.None}, false},
	} {
		if got := c.client.MayOmitPKCE(); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestMachineGetsNoScopesOfPeople(t *testing.T) {
	c := backend(t)
	c.GrantTypes, c.RedirectURIs = []string{"client_credentials"}, nil
	if warnings, err := c.Validate(false); err != nil || len(warnings) != 0 || len(c.Scopes) != 0 {
		t.Errorf("scopes %q, warnings %q, %v", c.Scopes, warnings, err)
	}
	c.BackchannelLogoutURI = "https://app.example.com/logout"
	if warnings, err := c.Validate(false); err != nil || len(warnings) != 1 {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	c = backend(t)
	c.Origins = good().Origins
	if warnings, err := c.Validate(false); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "can't keep a credential") {
		t.Errorf("warnings %q, %v", warnings, err)
	}
}

func TestLogoutURIOnLoopbackIsForDevelopment(t *testing.T) {
	for uri, want := range map[string]bool{"http://127.0.0.1:3000/logout": true, "http://localhost/": true, "http://app.example.com/": false, "https://app.example.com/": true} {
		c := backend(t)
		c.BackchannelLogoutURI = uri
		if _, err := c.Validate(true); (err == nil) != want || c.Development != strings.HasPrefix(uri, "http:") {
			t.Errorf("%s: development %t, %v", uri, c.Development, err)
		}
	}
}

// TestStoredAsValidated: what Validate made of a client is what comes back
// from a store, to the byte, so a declared client is not written at every start.
func TestStoredAsValidated(t *testing.T) {
	want := backend(t)
	want.JWKS = json.RawMessage("\n{ \"keys\" : [\n " + set(public(t, signers().ec.Public()).with("kid", "<a> & \u2028 ü"))[9:])
	want.GrantTypes = []string{}
	if _, err := want.Validate(false); err != nil || bytes.ContainsAny(want.JWKS, "\n<>") {
		t.Fatalf("%s, %v", want.JWKS, err)
	}
	stored, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got clients.Client
	if err := json.Unmarshal(stored, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v, %v", got, want, err)
	}
	before := got
	if _, err := got.Validate(false); err != nil || !reflect.DeepEqual(got, before) {
		t.Errorf("validated again: %+v\nwant %+v, %v", got, before, err)
	}
	if keys, err := got.Keys(); err != nil || len(keys) != 1 || keys[0].ID != "<a> & \u2028 ü" {
		t.Errorf("%+v, %v", keys, err)
	}
}

// TestOldRecordsAreThoseOfPublicClients: a record of an earlier version reads
// as it did, and is written as it was.
func TestOldRecordsAreThoseOfPublicClients(t *testing.T) {
	const old = `{"id":"spa","name":"spa","redirect_uris":["https://app.example.com/cb"],"origins":["https://app.example.com"],` +
		`"audiences":["https://api.example.com"],"scopes":["openid"],"id_token_signed_response_alg":"ES256","epoch":7,"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z"}`
	var c clients.Client
	if err := json.Unmarshal([]byte(old), &c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Validate(false); err != nil || c.Confidential() || c.Method() != clients.None || c.MustPush() || c.MustProve() || c.CheckSecret("") ||
		!c.HasGrantType("authorization_code") || !c.HasGrantType("refresh_token") || c.HasGrantType("client_credentials") {
		t.Errorf("%+v, %v", c, err)
	}
	if again, err := json.Marshal(c); err != nil || string(again) != old {
		t.Errorf("written as %s, %v", again, err)
	}
	var rs clients.ResourceServer
	if err := json.Unmarshal([]byte(`{"id":"api","audience":"https://api.example.com","secret_hash":[1`+strings.Repeat(",0", 31)+`]}`), &rs); err != nil || rs.Validate() != nil || rs.Method() != clients.SecretBasic {
		t.Errorf("%+v, %v, %v", rs, err, rs.Validate())
	}
}

func TestValidateResourceServer(t *testing.T) {
	keys := json.RawMessage(set(public(t, signers().ed.Public())))
	hash := [32]byte{1}
	const api = "https://api.example.com"
	for name, c := range map[string]struct {
		rs   clients.ResourceServer
		want string
	}{
		"a secret":       {clients.ResourceServer{ID: "api", Audience: api, SecretHash: hash}, ""},
		"it says so":     {clients.ResourceServer{ID: "api", Audience: api, SecretHash: hash, AuthMethod: clients.SecretBasic}, ""},
		"keys":           {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: clients.PrivateKeyJWT, JWKS: keys}, ""},
		"none":           {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: clients.None}, "auth_method"},
		"unknown":        {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: "x"}, "auth_method"},
		"no secret":      {clients.ResourceServer{ID: "api", Audience: api}, "secret"},
		"no keys":        {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: clients.PrivateKeyJWT}, "jwks"},
		"bad keys":       {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: clients.PrivateKeyJWT, JWKS: keys[1:]}, "jwks"},
		"keys, a secret": {clients.ResourceServer{ID: "api", Audience: api, AuthMethod: clients.PrivateKeyJWT, JWKS: keys, SecretHash: hash}, "secret"},
		"a secret, keys": {clients.ResourceServer{ID: "api", Audience: api, JWKS: keys, SecretHash: hash}, "jwks"},
		"no id":          {clients.ResourceServer{Audience: api, SecretHash: hash}, "resource server id"},
	} {
		err := c.rs.Validate()
		if ok := err == nil; ok != (c.want == "") || !ok && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want a mistake in %q", name, err, c.want)
		}
		if keys, err := c.rs.Keys(); c.want == "" && (err == nil) != (len(c.rs.JWKS) > 0) {
			t.Errorf("%s: keys %+v, %v", name, keys, err)
		}
	}
}

// TestSecret: clients and resource servers have secrets of the same kind.
func TestSecret(t *testing.T) {
	c, rs := clients.Client{}, clients.ResourceServer{}
	for name, check := range map[string]func(string) bool{"client": c.CheckSecret, "resource server": rs.CheckSecret} {
		if check("") {
			t.Errorf("%s: no secret fits the empty one", name)
		}
	}
	first, err := c.NewSecret(rand.Reader)
	if err != nil || !c.CheckSecret(first) || c.CheckSecret(first+"x") || c.CheckSecret("") || !strings.HasPrefix(first, "sgs_") || len(first) != 47 {
		t.Errorf("%q, %v", first, err)
	}
	second, err := rs.NewSecret(rand.Reader)
	if err != nil || !rs.CheckSecret(second) || rs.CheckSecret(first) || rs.CheckSecret("") || second == first {
		t.Errorf("%q, %v", second, err)
	}
	if _, err := c.NewSecret(strings.NewReader("short")); err == nil || !c.CheckSecret(first) {
		t.Errorf("without enough randomness: %v; the one before stays", err)
	}
}

func TestSecretMadeElsewhere(t *testing.T) {
	for _, secret := range []string{
		"9f8b1c6de02a4735b1d0c2e7f4a69358", "Zm9vYmFyYmF6cXV4LXRoaXMtaXMtcmFuZG9t+/==", strings.Repeat("0123456789", 20),
	} {
		var c clients.Client
		if err := c.SetSecret(secret); err != nil || !c.CheckSecret(secret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
	for _, secret := range []string{
		"", "hunter2", "9f8b1c6de02a4735b1d0c2e7f4a6935", strings.Repeat("a", 64), strings.Repeat("0123456", 10), strings.Repeat("0123456789", 20) + "x",
		"9f8b1c6de02a4735b1d0c2e7f4a69358\n", "nine f8b1c6de02a4735b1d0c2e7f4a69358", "9f8b1c6de02a4735b1d0c2e7f4a69358\x7f", "ü9f8b1c6de02a4735b1d0c2e7f4a69358",
	} {
		var c clients.Client
		if err := c.SetSecret(secret); err == nil || c.SecretHash != [32]byte{} || secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
}
