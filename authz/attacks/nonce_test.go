package attacks

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage/storagetest"
)

// TestC19UsedProofIsRememberedAsLongAsItIsGood, also by servers whose clocks
// differ, and whether its time is by iat or, where the client's clock is wrong,
// by a nonce.
func TestC19UsedProofIsRememberedAsLongAsItIsGood(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	servers := map[string]*authztest.Server{"the same server": s, "a slow one": skewed(s, -5*time.Second), "a fast one": skewed(s, 5*time.Second)}
	ask := func(server *authztest.Server, token, proof string) *http.Response {
		resp, err := http.DefaultClient.Do(request(t, "GET", server.Address+"/userinfo", nil, "Authorization", "DPoP "+token, "DPoP", proof))
		check(t, err)
		resp.Body.Close()
		return resp
	}
	for name, ahead := range map[string]time.Duration{"by iat": 9 * time.Second, "by a nonce": 20 * time.Minute} {
		token := s.With(key).SignIn("alice").AccessToken
		claims := map[string]any{"ath": authztest.ATH(token), "iat": s.Clock.Now().Add(ahead).Unix()}
		proof := key.Proof("GET", s.URL+"/userinfo", claims)
		first := ask(s, token, proof)
		if name == "by a nonce" {
			if first.StatusCode != http.StatusUnauthorized || first.Header.Get("DPoP-Nonce") == "" {
				t.Fatalf("a wrong clock: %d", first.StatusCode)
			}
			claims["nonce"] = first.Header.Get("DPoP-Nonce")
			proof = key.Proof("GET", s.URL+"/userinfo", claims)
			first = ask(s, token, proof)
		}
		if first.StatusCode != http.StatusOK {
			t.Fatalf("%s, the honest request: %d", name, first.StatusCode)
		}
		for second := range 290 { // as long as the token lives
			s.Clock.Advance(time.Second)
			if _, err := s.Store.Sweep(t.Context(), s.Clock.Now(), 1000); err != nil {
				t.Fatal(err)
			}
			for where, server := range servers {
				if status := ask(server, token, proof).StatusCode; status == http.StatusOK {
					t.Fatalf("%s, replayed at %s after %d s", name, where, second+1)
				}
			}
		}
	}
}

// TestC19ProofOfTheFuture: a proof that was taken by its nonce, or refused for
// its iat, is no better when its time comes: not with the nonce, which is old,
// and not without, for it has one.
func TestC19ProofOfTheFuture(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	tokens := s.With(key).SignIn("alice")
	later := s.Clock.Now().Add(10 * time.Minute)
	plain := key.Proof("POST", s.URL+"/token", map[string]any{"iat": later.Unix()})
	told := post(t, s, "/token", refreshing(tokens.RefreshToken), "DPoP", plain)
	nonce := told.Header.Get("DPoP-Nonce")
	if told.Error != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("a proof of the future: %+v", told)
	}
	var stolen []string // made in advance by whoever could use the key for a moment
	for _, n := range []any{nonce, flip(nonce[:1]) + nonce[1:], "x"} {
		stolen = append(stolen, key.Proof("POST", s.URL+"/token", map[string]any{"iat": later.Unix(), "nonce": n}))
	}
	s.Clock.Advance(10 * time.Minute)
	for i, proof := range stolen {
		if got := post(t, s, "/token", refreshing(tokens.RefreshToken), "DPoP", proof); got.Error != "use_dpop_nonce" || got.AccessToken != "" {
			t.Errorf("proof %d, made in advance: %+v", i, got)
		}
	}
	if got := s.With(key).Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the app: %+v", got)
	}
}

// skewed is another server of the same store, whose clock is off.
func skewed(s *authztest.Server, by time.Duration) *authztest.Server {
	off := *s
	off.Skew = by
	return off.Replica()
}

// C19: the nonce is enforced where it is asked for, and the client is told, at
// every endpoint and by every server.
func TestC19NonceIsEnforcedAndTold(t *testing.T) {
	s := authztest.New(t)
	s.UpdateClient(func(c *clients.Client) { c.RequireDPoPNonce = true })
	stranger := authztest.New(t) // another server with keys of its own
	stranger.UpdateClient(func(c *clients.Client) { c.RequireDPoPNonce = true })
	key := s.Key()
	told := func(server *authztest.Server) string {
		return post(t, server, "/par", server.Authorization(), "DPoP", key.Proof("POST", server.URL+"/par", nil)).Header.Get("DPoP-Nonce")
	}
	nonce, foreign := told(s), told(stranger)
	if nonce == "" || foreign == "" || nonce == foreign {
		t.Fatalf("nonces %q and %q", nonce, foreign)
	}
	token := s.With(key).SignIn("alice").AccessToken
	raw, err := decode(nonce)
	check(t, err)
	sum := sha256.Sum256(raw)
	for name, bad := range map[string]any{
		"none": nil, "empty": "", "made up": strings.Repeat("A", len(nonce)), "another server's": foreign, "cut": nonce[:len(nonce)-1], "longer": nonce + "A",
		"one bit": nonce[:20] + flip(nonce[20:21]) + nonce[21:], "hashed": encode(sum[:24]), "the tag alone": nonce[11:], "padded": nonce + "=", "two": nonce + "," + nonce, "huge": strings.Repeat("A", 2000),
	} {
		for path, form := range map[string]map[string][]string{"/token": exchange("x"), "/par": s.Authorization()} {
			got := post(t, s, path, form, "DPoP", key.Proof("POST", s.URL+path, map[string]any{"nonce": bad}), "Origin", "https://spa.example.com")
			if got.Status != http.StatusBadRequest || got.Error != "use_dpop_nonce" || got.Header.Get("DPoP-Nonce") == "" || !strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "DPoP-Nonce") {
				t.Errorf("%s, nonce %s: %+v", path, name, got)
			}
		}
		r := request(t, "GET", s.URL+"/userinfo", nil, "Authorization", "DPoP "+token, "Origin", "https://spa.example.com",
			"DPoP", key.Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(token), "nonce": bad}))
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		if challenge := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(challenge, `DPoP realm="solegate", error="use_dpop_nonce"`) || resp.Header.Get("DPoP-Nonce") == "" {
			t.Errorf("userinfo, nonce %s: %d %s", name, resp.StatusCode, challenge)
		}
		if exposed := resp.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "DPoP-Nonce") || !strings.Contains(exposed, "WWW-Authenticate") {
			t.Errorf("userinfo exposes %q", exposed)
		}
	}
	// A refusal for the nonce uses up neither the proof's jti nor anything else:
	// the same jti with the right nonce passes, at another server.
	jti := rand.Text()
	info := func(server *authztest.Server, nonce any) int {
		status, _ := userInfo(t, server, "DPoP", token, "DPoP", key.Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(token), "nonce": nonce, "jti": jti}))
		return status
	}
	if status := info(s, nil); status != http.StatusUnauthorized {
		t.Errorf("without: %d", status)
	}
	if status := info(s.Replica(), nonce); status != http.StatusOK {
		t.Errorf("with: %d", status)
	}
	s.Clock.Advance(4*time.Minute + time.Second)
	jti = rand.Text()
	if status := info(s, nonce); status != http.StatusUnauthorized {
		t.Errorf("four minutes old: %d", status)
	}
}

// TestC19NobodyPassesWithoutTheReplayStore: what can't be remembered is
// refused, and burns nothing.
func TestC19NobodyPassesWithoutTheReplayStore(t *testing.T) {
	s := authztest.New(t)
	var outcome storagetest.Outcome
	broken := s.Replica(func(c *authz.Config) {
		c.Store = storagetest.WithFaults(s.Store, func(write string) storagetest.Outcome {
			if write == "Once" {
				return outcome
			}
			return storagetest.Outcome{}
		})
	})
	key := s.Key()
	app := s.With(key)
	tokens := app.SignIn("alice")
	code := s.Browser().Code("alice", "dpop_jkt", key.JKT)
	for _, outcome = range []storagetest.Outcome{{Fail: true}, {Lose: true}} {
		for name, got := range map[string]authztest.Tokens{
			"a refresh": broken.With(key).Refresh(tokens.RefreshToken),
			"a code":    broken.With(key).Redeem(code),
			"a push":    post(t, broken, "/par", s.Authorization(), "DPoP", key.Proof("POST", s.URL+"/par", nil)),
		} {
			if got.Status != http.StatusServiceUnavailable || got.Error != "temporarily_unavailable" || got.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if status, _ := userInfo(t, broken, "DPoP", tokens.AccessToken, "DPoP", proofFor(s, key, tokens.AccessToken)); status != http.StatusServiceUnavailable {
			t.Errorf("userinfo: %d", status)
		}
	}
	if got := app.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("the code was burnt: %+v", got)
	}
	if got := app.Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the refresh token was burnt: %+v", got)
	}
}
