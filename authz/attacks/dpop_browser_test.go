package attacks

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/cmd/demo/stage"
)

// loot is what a script finds that runs in the app's page.
type loot struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Type    string `json:"token_type"`
}

// steal runs in the page what an injected script would.
func steal(b *tab) loot {
	b.t.Helper()
	var l loot
	found := b.eval(`Object.entries(localStorage).find(([k]) => k.startsWith("oidc.user:"))?.[1]`)
	if err := json.Unmarshal([]byte(found), &l); err != nil || l.Access == "" || l.Refresh == "" {
		b.t.Fatalf("the script finds no tokens (%v)", err)
	}
	return l
}

// program sends requests as a program does, outside of any browser.
type program struct {
	t   *testing.T
	key *authztest.Key // that it proves
}

func newProgram(t *testing.T) *program {
	return &program{t, (&authztest.Server{TB: t, Clock: &authztest.Clock{}}).Key()}
}

// send sends a request, with a proof if it shall, and once more with the nonce
// that it is told.
func (p *program) send(method, to, scheme, token string, prove bool, form url.Values) (resp *http.Response, body string) {
	p.t.Helper()
	nonce := ""
	for {
		r, err := http.NewRequestWithContext(p.t.Context(), method, to, strings.NewReader(form.Encode()))
		if err != nil {
			p.t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		claims := map[string]any{"iat": time.Now().Unix()}
		if token != "" {
			r.Header.Set("Authorization", scheme+" "+token)
			claims["ath"] = authztest.ATH(token)
		}
		if nonce != "" {
			claims["nonce"] = nonce
		}
		if prove {
			r.Header.Set("DPoP", p.key.Proof(method, to, claims))
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			p.t.Fatal(err)
		}
		told := resp.Header.Get("DPoP-Nonce")
		if !prove || nonce != "" || told == "" || resp.StatusCode == http.StatusOK {
			return resp, string(text)
		}
		nonce = told
	}
}

// live are the grants that have not ended.
func (w *world) live() (n int) {
	for _, g := range w.grants() {
		if g.RevokedAt.IsZero() {
			n++
		}
	}
	return n
}

func TestC21StolenFromThePageAndReplayedOutside(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	b.press("Call the API")
	b.works("Call the API")
	l := steal(b)
	if l.Type != "DPoP" {
		t.Errorf("token type %q", l.Type)
	}
	jkt := authztest.Claims(t, l.Access)["cnf"].(map[string]any)["jkt"]
	if shown := b.eval(`document.getElementById("claims").innerText`); !strings.Contains(shown, jkt.(string)) {
		t.Errorf("the page does not show the thumbprint: %s", shown)
	}

	thief := newProgram(t)
	for _, at := range []string{w.APIURL + "/api/notes", w.AuthURL + "/userinfo"} {
		for _, try := range []struct {
			name, scheme string
			prove        bool
		}{{"bearer", "Bearer", false}, {"no proof", "DPoP", false}, {"another key", "DPoP", true}, {"bearer with a proof", "Bearer", true}} {
			resp, body := thief.send("GET", at, try.scheme, l.Access, try.prove, nil)
			challenges := strings.Join(resp.Header.Values("WWW-Authenticate"), ", ")
			if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(challenges, "DPoP ") || strings.Contains(challenges, "use_dpop_nonce") {
				t.Errorf("%s: %s: %d %s %s; 401 with a challenge expected", at, try.name, resp.StatusCode, challenges, body)
			}
		}
	}
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {string(w.Client.ID)}, "refresh_token": {l.Refresh}}
	for _, prove := range []bool{false, true} {
		if resp, body := thief.send("POST", w.AuthURL+"/token", "", "", prove, form); resp.StatusCode != http.StatusBadRequest || strings.Contains(body, "access_token") || strings.Contains(body, "use_dpop_nonce") {
			t.Errorf("refresh, with a proof by another key %t: %d %s", prove, resp.StatusCode, body)
		}
	}

	// The thief has not even disturbed whom the tokens belong to.
	b.press("Refresh")
	b.works("Refresh")
	b.press("Call the API")
	b.works("Call the API")
	if n := w.live(); n != 1 || len(w.grants()) != 1 {
		t.Errorf("%d live grants of %d, one expected", n, len(w.grants()))
	}
}

// keyInPage finds the private key in IndexedDB, as pair.
const keyInPage = `new Promise((found, failed) => {
	const open = indexedDB.open("oidc");
	open.onerror = failed;
	open.onsuccess = () => {
		const get = open.result.transaction("dpop").objectStore("dpop").get("notes-spa");
		get.onerror = failed;
		get.onsuccess = () => found(get.result.keys);
	};
})`

// evalAsync waits for what a script in the page comes to.
func (b *tab) evalAsync(script string) string {
	b.t.Helper()
	b.eval(`(window.came = undefined, (async () => { ` + script + ` })().then((v) => { came = "" + v }, (e) => { came = "threw " + e }), 0)`)
	b.waitFor(`window.came !== undefined`)
	return b.eval(`came`)
}

func TestC21TheKeyIsNotGivenAway(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	jkt := authztest.Claims(t, steal(b).Access)["cnf"].(map[string]any)["jkt"]

	// It is the key that the token names, and it signs here.
	thumbprint := b.evalAsync(`const pair = await ` + keyInPage + `;
		const { crv, kty, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
		const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify({ crv, kty, x, y })));
		return btoa(String.fromCharCode(...new Uint8Array(sum))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")`)
	if thumbprint != jkt {
		t.Fatalf("the key's thumbprint is %s, the token's %s", thumbprint, jkt)
	}
	if signed := b.evalAsync(`const pair = await ` + keyInPage + `;
		return (await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pair.privateKey, new Uint8Array(8))).byteLength`); signed != "64" {
		t.Fatalf("signing: %s", signed)
	}

	if extractable := b.evalAsync(`return (await ` + keyInPage + `).privateKey.extractable`); extractable != "false" {
		t.Errorf("extractable: %s", extractable)
	}
	for _, format := range []string{"jwk", "pkcs8", "raw", "spki"} {
		if got := b.evalAsync(`return JSON.stringify(await crypto.subtle.exportKey("` + format + `", (await ` + keyInPage + `).privateKey))`); !strings.HasPrefix(got, "threw ") {
			t.Errorf("exported as %s: %s", format, got)
		}
	}
	if got := b.evalAsync(`const box = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["wrapKey"]);
		return (await crypto.subtle.wrapKey("pkcs8", (await ` + keyInPage + `).privateKey, box, { name: "AES-GCM", iv: new Uint8Array(12) })).byteLength`); !strings.HasPrefix(got, "threw ") {
		t.Errorf("wrapped: %s", got)
	}
	if text := b.evalAsync(`return JSON.stringify((await ` + keyInPage + `).privateKey) + JSON.stringify({ ...localStorage, ...sessionStorage })`); strings.Contains(text, `"d"`) {
		t.Errorf("a private key is in %s", text)
	}
	b.press("Export the key")
	if text := b.fails("Export the key"); !strings.Contains(text, "extractable") {
		t.Errorf("the app says %s", text)
	}
}

func TestC21CopyUsesAStolenToken(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	stolen := steal(b).Access
	b.openApp(w.CopyURL)
	use := func(token string) {
		t.Helper()
		b.eval(fmt.Sprintf(`(document.getElementById("log").replaceChildren(), document.getElementById("stolen").value = %q)`, token))
		b.press("Use a token stolen from the app")
	}

	// A token that is not bound is all that a thief needs.
	use(w.bearer())
	if text := b.works("Use a token stolen from the app"); !strings.Contains(text, "As a bearer token: 200") {
		t.Errorf("a token that is not bound: %s", text)
	}
	use(stolen)
	text := b.fails("Use a token stolen from the app")
	for _, how := range []string{"As a bearer token: 401", "Without a proof: 401", "With a proof by another key: 401"} {
		if !strings.Contains(text, how) {
			t.Errorf("the copy says %s; %s expected", text, how)
		}
	}
}

// bearer signs the user in with a program that sends no proof, and returns the
// access token.
func (w *world) bearer() string {
	w.t.Helper()
	redirect := string(w.Client.RedirectURIs[0])
	b := (&authztest.Server{TB: w.t, URL: w.AuthURL}).Browser()
	p := b.Follow(b.Get("/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {string(w.Client.ID)}, "redirect_uri": {redirect}, "scope": {"notes:read"},
		"code_challenge": {authztest.Challenge(authztest.Verifier)}, "code_challenge_method": {"S256"},
	}.Encode()))
	code := b.SignIn(p, stage.User, stage.Password).Answer().Get("code")
	resp, body := newProgram(w.t).send("POST", w.AuthURL+"/token", "", "", false, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {string(w.Client.ID)}, "code": {code},
		"redirect_uri": {redirect}, "code_verifier": {authztest.Verifier},
	})
	var l loot
	if err := json.Unmarshal([]byte(body), &l); err != nil || l.Type != "Bearer" {
		w.t.Fatalf("the token endpoint answered %d %s", resp.StatusCode, body)
	}
	return l.Access
}

// A script in the page may ask for a login of its own: the person is signed in,
// so nothing would be asked, and the code would come to the page's own origin.
func TestC21ScriptAsksForTokensForAKeyOfItsOwn(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	thief := newProgram(t)
	request := w.AuthURL + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {string(w.Client.ID)}, "redirect_uri": {string(w.Client.RedirectURIs[0])}, "scope": {"openid"},
		"code_challenge": {authztest.Challenge(authztest.Verifier)}, "code_challenge_method": {"S256"}, "dpop_jkt": {thief.key.JKT},
		"prompt": {"none"}, "state": {"thief"},
	}.Encode()
	redeemed := func() (n int) {
		for _, g := range w.grants() {
			if !g.RedeemedAt.IsZero() {
				n++
			}
		}
		return n
	}

	before := len(w.grants())
	b.eval(`(() => { window.loaded = false; const frame = document.createElement("iframe"); frame.id = "thief"; frame.onload = () => { loaded = true }; frame.src = "` + request + `"; document.body.append(frame); return 0 })()`)
	b.waitFor(`window.loaded`)
	if seen := b.eval(`(() => { try { return document.getElementById("thief").contentWindow.location.href } catch { return "not this origin" } })()`); strings.Contains(seen, "code=") {
		t.Errorf("the script sees %s in the frame", seen)
	}
	if n := len(w.grants()); n != before {
		t.Errorf("%d grants, %d before the frame", n, before)
	}

	// A pop-up gets its code, as it is a login like others, but the script
	// loses its handle on the way, and the app refuses it.
	b.eval(`(window.seen = [], window.popup = open("` + request + `", "thief", "popup"), window.watch = setInterval(() => {
		try { seen.push(popup.closed ? "closed" : popup.location.href) } catch { seen.push("not this origin") }
	}, 5), 0)`)
	popup := b.other(w.SPAURL)
	popup.fails("Back from the login")
	b.waitFor(`seen.at(-1) === "closed"`)
	if seen := b.eval(`(clearInterval(watch), [...new Set(seen)].join(" "))`); strings.Contains(seen, "code=") {
		t.Errorf("the script sees %s in the pop-up", seen)
	}
	if n := redeemed(); n != 1 {
		t.Errorf("%d grants were redeemed, the app's own expected", n)
	}
}
