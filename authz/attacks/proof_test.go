package attacks

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/authz/authztest"
)

// C19 at userinfo: a bound token without its key.
func TestC19BoundTokenWithoutItsKey(t *testing.T) {
	s := authztest.New(t)
	replica := s.Replica()
	key, other := s.Key(), s.Key()
	app := s.With(key)
	token, plain := app.SignIn("alice").AccessToken, s.SignIn("alice").AccessToken
	second := app.SignIn("alice").AccessToken
	used := proofFor(s, key, token)
	if status, _ := userInfo(t, s, "DPoP", token, "DPoP", used); status != http.StatusOK {
		t.Fatalf("the honest request: %d", status)
	}
	proof := func(changes map[string]any) string {
		if _, ok := changes["ath"]; !ok {
			changes["ath"] = authztest.ATH(token)
		}
		return key.Proof("GET", s.URL+"/userinfo", changes)
	}
	now := s.Clock.Now().Unix()
	for name, c := range map[string]struct {
		server        *authztest.Server
		scheme, token string
		proofs        []string
		says          string
	}{
		"as Bearer":                      {s, "Bearer", token, nil, "invalid_token"},
		"as Bearer with a proof":         {s, "Bearer", token, []string{proof(map[string]any{})}, "invalid_token"},
		"as bearer in lower case":        {s, "bearer", token, nil, "invalid_token"},
		"no proof":                       {s, "DPoP", token, nil, "invalid_dpop_proof"},
		"an empty proof":                 {s, "DPoP", token, []string{""}, "invalid_dpop_proof"},
		"another key's proof":            {s, "DPoP", token, []string{proofFor(s, other, token)}, "invalid_token"},
		"replayed":                       {s, "DPoP", token, []string{used}, "invalid_dpop_proof"},
		"replayed at another server":     {replica, "DPoP", token, []string{used}, "invalid_dpop_proof"},
		"two proofs":                     {s, "DPoP", token, []string{proof(map[string]any{}), proof(map[string]any{})}, "invalid_dpop_proof"},
		"two proofs in one header":       {s, "DPoP", token, []string{proof(map[string]any{}) + ", " + proof(map[string]any{})}, "invalid_dpop_proof"},
		"the same proof twice":           {s, "DPoP", token, []string{used, used}, "invalid_dpop_proof"},
		"htm of another method":          {s, "DPoP", token, []string{proof(map[string]any{"htm": "POST"})}, "invalid_dpop_proof"},
		"htm in lower case":              {s, "DPoP", token, []string{proof(map[string]any{"htm": "get"})}, "invalid_dpop_proof"},
		"no htm":                         {s, "DPoP", token, []string{proof(map[string]any{"htm": nil})}, "invalid_dpop_proof"},
		"htu of another endpoint":        {s, "DPoP", token, []string{proof(map[string]any{"htu": s.URL + "/token"})}, "invalid_dpop_proof"},
		"htu of another path":            {s, "DPoP", token, []string{proof(map[string]any{"htu": s.URL + "/userinfo/"})}, "invalid_dpop_proof"},
		"htu of another host":            {s, "DPoP", token, []string{proof(map[string]any{"htu": "https://api.example.com/userinfo"})}, "invalid_dpop_proof"},
		"htu of another scheme":          {s, "DPoP", token, []string{proof(map[string]any{"htu": strings.Replace(s.URL, "http:", "https:", 1) + "/userinfo"})}, "invalid_dpop_proof"},
		"htu of the replica":             {replica, "DPoP", token, []string{proof(map[string]any{"htu": replica.Address + "/userinfo"})}, "invalid_dpop_proof"},
		"no htu":                         {s, "DPoP", token, []string{proof(map[string]any{"htu": nil})}, "invalid_dpop_proof"},
		"ath of another token":           {s, "DPoP", token, []string{proof(map[string]any{"ath": authztest.ATH(second)})}, "invalid_dpop_proof"},
		"no ath":                         {s, "DPoP", token, []string{proof(map[string]any{"ath": nil})}, "invalid_dpop_proof"},
		"the token itself as ath":        {s, "DPoP", token, []string{proof(map[string]any{"ath": token})}, "invalid_dpop_proof"},
		"stale":                          {s, "DPoP", token, []string{proof(map[string]any{"iat": now - 71})}, "use_dpop_nonce"},
		"of the future":                  {s, "DPoP", token, []string{proof(map[string]any{"iat": now + 11})}, "use_dpop_nonce"},
		"no iat":                         {s, "DPoP", token, []string{proof(map[string]any{"iat": nil})}, "invalid_dpop_proof"},
		"no jti":                         {s, "DPoP", token, []string{proof(map[string]any{"jti": nil})}, "invalid_dpop_proof"},
		"an empty jti":                   {s, "DPoP", token, []string{proof(map[string]any{"jti": ""})}, "invalid_dpop_proof"},
		"a bearer token as if bound":     {s, "DPoP", plain, []string{proofFor(s, key, plain)}, "invalid_token"},
		"a bearer token, another's ath":  {s, "DPoP", plain, []string{proof(map[string]any{})}, "invalid_token"},
		"the proof of the token request": {s, "DPoP", token, []string{key.Proof("POST", s.URL+"/token", nil)}, "invalid_dpop_proof"},
	} {
		var headers []string
		for _, p := range c.proofs {
			headers = append(headers, "DPoP", p)
		}
		status, challenge := userInfo(t, c.server, c.scheme, c.token, headers...)
		if status != http.StatusUnauthorized || !strings.Contains(challenge, `error="`+c.says+`"`) {
			t.Errorf("%s: %d %s, %s expected", name, status, challenge, c.says)
		}
		if c.scheme == "DPoP" && (!strings.HasPrefix(challenge, "DPoP ") || !strings.Contains(challenge, `algs="ES256 PS256 EdDSA Ed25519"`)) {
			t.Errorf("%s: the challenge is %s", name, challenge)
		}
	}
	// The token stands nowhere but in the header.
	for _, query := range []string{"?access_token=" + token, "?dpop=" + used} {
		r := request(t, "GET", s.URL+"/userinfo"+query, nil, "DPoP", proofFor(s, key, token))
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token in the query: %d", resp.StatusCode)
		}
	}
	// Honest spellings of htu, and a proof for the query's address.
	for _, htu := range []string{s.URL + "/userinfo?x=1#y", strings.Replace(s.URL, "http", "HTTP", 1) + "/%75serinfo", s.URL + "/./userinfo"} {
		if status, challenge := userInfo(t, s, "DPoP", token, "DPoP", proof(map[string]any{"htu": htu})); status != http.StatusOK {
			t.Errorf("htu %s: %d %s", htu, status, challenge)
		}
	}
	noSecrets(t, s, map[string]string{"token": token, "bearer token": plain, "proof": used})
}

// C19 behind a proxy that rewrites the host, and under a lying one: htu is the
// issuer's, whatever the request says.
func TestC19HostTricks(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	tokens := app.SignIn("alice")
	lies := []string{"X-Forwarded-Host", "evil.net", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix", "/x", "Forwarded", "host=evil.net;proto=https", "X-Original-URL", "/evil", "X-Rewrite-URL", "/evil"}
	refresh := func(htu string) authztest.Tokens {
		r := request(t, "POST", s.URL+"/token", refreshing(tokens.RefreshToken), append(lies, "DPoP", key.Proof("POST", htu, nil))...)
		r.Host = "evil.net"
		return s.Do(r)
	}
	for _, htu := range []string{"https://evil.net/token", "http://evil.net/token", "https://evil.net/x/token", s.URL + "/evil", s.URL + "/x/token", strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/token", strings.Replace(s.URL, "http://", "http://evil@", 1) + "/token"} {
		if got := refresh(htu); got.Error != "invalid_dpop_proof" {
			t.Errorf("htu %s: %+v", htu, got)
		}
	}
	got := refresh(s.URL + "/token")
	if got.Status != http.StatusOK {
		t.Errorf("the public address under a rewritten host: %+v", got)
	}
	r := request(t, "GET", s.URL+"/userinfo", nil, append(lies, "Authorization", "DPoP "+got.AccessToken, "DPoP", proofFor(s, key, got.AccessToken))...)
	r.Host = "evil.net"
	resp, err := http.DefaultClient.Do(r)
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("userinfo under a rewritten host: %d", resp.StatusCode)
	}
}

// C19: the proof's key and algorithm, at /token and /par.
func TestC19ForgedProofs(t *testing.T) {
	s := authztest.New(t)
	mine, other := newForger(t), newForger(t)
	header := map[string]any{"alg": "ES256", "typ": "dpop+jwt", "jwk": mine.jwk}
	claims := func(path string) map[string]any {
		return map[string]any{"htm": "POST", "htu": s.URL + path, "iat": s.Clock.Now().Unix(), "jti": rand.Text()}
	}
	scalar, err := mine.private.Bytes()
	check(t, err)
	private := map[string]any{"d": encode(scalar)}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	der, err := x509.MarshalPKIXPublicKey(mine.private.Public())
	check(t, err)
	jwk := func(changes map[string]any) map[string]any {
		var changed map[string]any
		check(t, json.Unmarshal([]byte(object(t, mine.jwk, changes)), &changed))
		return changed
	}
	signedBy := func(alg jose.SignatureAlgorithm, key any, payload string) string {
		options := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
		check(t, err)
		jws, err := signer.Sign([]byte(payload))
		check(t, err)
		text, err := jws.CompactSerialize()
		check(t, err)
		return text
	}
	edwardsPublic, edwardsPrivate, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	edwards := func(alg, payload string) string {
		head := object(t, header, map[string]any{"alg": alg, "jwk": map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(edwardsPublic)}})
		input := encode([]byte(head)) + "." + encode([]byte(payload))
		return input + "." + encode(ed25519.Sign(edwardsPrivate, []byte(input)))
	}
	for _, path := range []string{"/par", "/token"} {
		form, passed := s.Authorization(), func(got authztest.Tokens) bool { return got.Status == http.StatusCreated }
		if path == "/token" { // a bad code comes after the proof
			form, passed = exchange("x"), func(got authztest.Tokens) bool { return got.Error == "invalid_grant" }
		}
		with := func(changes map[string]any) string {
			return mine.sign(t, object(t, header, changes), object(t, claims(path), nil))
		}
		plain := object(t, claims(path), nil)
		for name, proof := range map[string]string{
			"a good one":          with(nil),
			"extra members":       with(map[string]any{"jwk": jwk(map[string]any{"kid": "x", "ext": true, "key_ops": []string{"verify"}, "other": map[string]any{"d": 1}}), "kid": "x"}),
			"PS256":               signedBy(jose.PS256, rsaKey, plain),
			"EdDSA":               edwards("EdDSA", object(t, claims(path), nil)),
			"Ed25519":             edwards("Ed25519", object(t, claims(path), nil)),
			"unknown claims":      mine.sign(t, object(t, header, nil), object(t, claims(path), map[string]any{"scope": "admin", "cnf": 1})),
			"an ath nobody needs": mine.sign(t, object(t, header, nil), object(t, claims(path), map[string]any{"ath": "x"})),
		} {
			if got := post(t, s, path, form, "DPoP", proof); !passed(got) {
				t.Errorf("%s with %s: %+v", path, name, got)
			}
		}
		for name, proof := range map[string]string{
			"RS256":                       signedBy(jose.RS256, rsaKey, plain),
			"RS256 under the name PS256":  renamed(t, signedBy(jose.RS256, rsaKey, plain), "RS256", "PS256"),
			"PS384":                       signedBy(jose.PS384, rsaKey, plain),
			"Ed448":                       edwards("Ed448", plain),
			"alg none":                    encode([]byte(object(t, header, map[string]any{"alg": "none"}))) + "." + encode([]byte(plain)) + ".",
			"HS256 with the public key":   hs256(object(t, header, map[string]any{"alg": "HS256"}), plain, der),
			"HS256 with the JWK":          hs256(object(t, header, map[string]any{"alg": "HS256"}), plain, []byte(object(t, mine.jwk, nil))),
			"HS256 with a symmetric JWK":  hs256(object(t, header, map[string]any{"alg": "HS256", "jwk": map[string]any{"kty": "oct", "k": encode([]byte("key"))}}), plain, []byte("key")),
			"a private key in jwk":        with(map[string]any{"jwk": jwk(private)}),
			"a private member, empty":     with(map[string]any{"jwk": jwk(map[string]any{"d": ""})}),
			"a symmetric member":          with(map[string]any{"jwk": jwk(map[string]any{"k": "AAAA"})}),
			"another's jwk":               with(map[string]any{"jwk": other.jwk}),
			"no jwk":                      with(map[string]any{"jwk": nil}),
			"a jwk that is a list":        with(map[string]any{"jwk": []any{mine.jwk}}),
			"jku":                         with(map[string]any{"jku": s.URL + "/jwks"}),
			"kid alone":                   with(map[string]any{"jwk": nil, "kid": s.Ring.List()[0].ID}),
			"x5c":                         with(map[string]any{"x5c": []string{"AAAA"}}),
			"crit":                        with(map[string]any{"crit": []string{"nonce"}}),
			"typ JWT":                     with(map[string]any{"typ": "JWT"}),
			"typ of an access token":      with(map[string]any{"typ": "at+jwt"}),
			"no typ":                      with(map[string]any{"typ": nil}),
			"jwk for encryption":          with(map[string]any{"jwk": jwk(map[string]any{"use": "enc"})}),
			"a member twice":              mine.sign(t, strings.Replace(object(t, header, nil), "{", `{"alg":"none",`, 1), plain),
			"a claim twice":               mine.sign(t, object(t, header, nil), strings.Replace(plain, "{", `{"htu":"https://evil.net/",`, 1)),
			"trailing data":               mine.sign(t, object(t, header, nil), plain+"{}"),
			"another brace":               mine.sign(t, object(t, header, nil)+"}", plain),
			"a signature of zeros":        encode([]byte(object(t, header, nil))) + "." + encode([]byte(plain)) + "." + encode(make([]byte, 64)),
			"5 KiB":                       mine.sign(t, object(t, header, nil), object(t, claims(path), map[string]any{"x": strings.Repeat("x", 5<<10)})),
			"a jti of 1000 bytes":         mine.sign(t, object(t, header, nil), object(t, claims(path), map[string]any{"jti": strings.Repeat("x", 1000)})),
			"two, joined by a comma":      with(nil) + "," + with(nil),
			"two, joined by comma, space": with(nil) + ", " + with(nil),
			"a scheme before it":          "DPoP " + with(nil),
		} {
			if got := post(t, s, path, form, "DPoP", proof); got.Error != "invalid_dpop_proof" || got.Status != http.StatusBadRequest {
				t.Errorf("%s with %s: %+v", path, name, got)
			}
		}
		if got := post(t, s, path, form, "DPoP", with(nil), "DPoP", with(nil)); got.Error != "invalid_dpop_proof" {
			t.Errorf("%s with two headers: %+v", path, got)
		}
		if got := post(t, s, path, form, "DPoP", with(nil), "dpop", ""); got.Error != "invalid_dpop_proof" {
			t.Errorf("%s with a second, empty header: %+v", path, got)
		}
	}
	noSecrets(t, s, map[string]string{"private key": private["d"].(string)})
	if after := leftBehind(t, s); after != (left{}) {
		t.Errorf("left behind: %+v", after)
	}
}

// renamed is a JWS under another alg.
func renamed(t *testing.T, jws, from, to string) string {
	t.Helper()
	head, rest, _ := strings.Cut(jws, ".")
	var header map[string]any
	raw, err := decode(head)
	check(t, err)
	check(t, json.Unmarshal(raw, &header))
	if header["alg"] != from {
		t.Fatalf("alg is %v", header["alg"])
	}
	header["alg"] = to
	return encode([]byte(object(t, header, nil))) + "." + rest
}

// TestC19ProofRace: one proof, many requests, at two servers: one passes, at
// each endpoint.
func TestC19ProofRace(t *testing.T) {
	s := authztest.New(t)
	servers := []*authztest.Server{s, s.Replica()}
	key := s.Key()
	tokens := s.With(key).SignIn("alice")
	race := func(name string, try func(*authztest.Server) (passed bool)) {
		t.Helper()
		var passed atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if try(servers[i%2]) {
					passed.Add(1)
				}
			})
		}
		all.Wait()
		if n := passed.Load(); n != 1 {
			t.Errorf("%s: %d of 50 passed", name, n)
		}
	}
	proof := key.Proof("POST", s.URL+"/token", nil)
	race("/token", func(server *authztest.Server) bool {
		got := post(t, server, "/token", refreshing(tokens.RefreshToken), "DPoP", proof)
		if got.Status != http.StatusOK && got.Error != "invalid_dpop_proof" {
			t.Errorf("a loser got %+v", got)
		}
		return got.Status == http.StatusOK
	})
	push := key.Proof("POST", s.URL+"/par", nil)
	race("/par", func(server *authztest.Server) bool {
		return post(t, server, "/par", s.Authorization(), "DPoP", push).Status == http.StatusCreated
	})
	info := proofFor(s, key, tokens.AccessToken)
	race("/userinfo", func(server *authztest.Server) bool {
		status, _ := userInfo(t, server, "DPoP", tokens.AccessToken, "DPoP", info)
		return status == http.StatusOK
	})
	if got := s.With(key).Refresh(tokens.RefreshToken); got.Status != http.StatusOK || len(liveGrants(t, s)) != 1 {
		t.Errorf("afterwards: %+v", got)
	}
}
