package attacks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/solegate/solegate/cmd/demo/stage"
)

// loginForm reads the hidden fields of the login page that the tab shows.
func loginForm(b *tab) (request, token string) {
	b.waitVisible("#username")
	return b.eval(`document.querySelector("input[name=request]").value`), b.eval(`document.querySelector("input[name=token]").value`)
}

func TestE26LoginCSRF(t *testing.T) {
	w := newWorld(t)
	// The attacker has a login page of her own open, with a good token.
	attacker := chromium(t)
	attacker.openApp(w.SPAURL)
	attacker.press("Sign in")
	request, token := loginForm(attacker)

	victim := chromium(t)
	victim.openApp(w.SPAURL)
	victim.press("Sign in")
	ownRequest, ownToken := loginForm(victim)

	post := func(request, token string) {
		victim.openApp(w.CopyURL)
		// The copy is served with a policy of ours; a real one would not be.
		victim.navigate("data:text/html,<title>evil</title>")
		victim.eval(fmt.Sprintf(`(() => { const f = document.createElement("form"); f.method = "post"; f.action = %q;
			for (const [n, v] of Object.entries({username: %q, password: %q, request: %q, token: %q})) { const i = document.createElement("input"); i.name = n; i.value = v; f.append(i) }
			document.body.append(f); f.submit(); return 0 })()`, w.AuthURL+"/login", stage.User, stage.Password, request, token))
		victim.waitHeading("has ended")
	}
	post("", "")
	post(request, token)
	post(ownRequest, ownToken)
	if n := len(w.sessions()); n != 0 {
		t.Errorf("%d sessions were made", n)
	}
	if cookie := victim.cookie(w.AuthURL, "solegate-session"); cookie != "" {
		t.Error("the victim is signed in")
	}
	// The honest post of the same page works.
	attacker.signIn()
	attacker.works("Back from the login")
}

func TestE27SessionFixation(t *testing.T) {
	w := newWorld(t)
	attacker := chromium(t)
	w.signedIn(attacker)
	planted := attacker.cookie(w.AuthURL, "solegate-session")
	if planted == "" {
		t.Fatal("no session cookie")
	}

	victim := chromium(t)
	victim.navigate(w.AuthURL)
	victim.setCookie(w.AuthURL, "solegate-session", "planted-before-the-login")
	w.signedIn(victim)
	after := victim.cookie(w.AuthURL, "solegate-session")
	if after == "" || after == planted || strings.HasPrefix(after, "planted") {
		t.Errorf("the cookie after the login is %q", after)
	}
	if js := victim.eval(`document.cookie`); strings.Contains(js, "solegate") {
		t.Errorf("a script can read %q", js)
	}
}

func TestE32MarkupInEverything(t *testing.T) {
	w := newWorld(t)
	payload := `"><script>window.xss=1</script><img src=x onerror="window.xss=1">'`
	c, err := w.Store.Client(t.Context(), w.Client.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Consent = payload, true
	if err := w.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b := chromium(t)
	b.openApp(w.SPAURL)
	clean := func(where string) {
		t.Helper()
		if got := b.eval(`String(window.xss) + document.querySelectorAll("script").length + document.querySelectorAll("img[onerror]").length`); got != "undefined00" {
			t.Errorf("%s: the payload ran or became markup: %s", where, got)
		}
	}
	escaped := strings.NewReplacer("+", "%2B", "&", "%26", "#", "%23", `"`, "%22", "<", "%3C", ">", "%3E", " ", "%20", "'", "%27").Replace(payload)
	request := w.AuthURL + "/authorize?response_type=code&client_id=notes-spa&redirect_uri=" + w.SPAURL + "/callback&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&scope=openid&state=" + escaped + "&login_hint=" + escaped + "&ui_locales=" + escaped
	b.navigate(request)
	b.waitVisible("#username")
	clean("login page")
	if shown := b.eval(`document.querySelector(".lead strong").textContent`); shown != payload {
		t.Errorf("the client's name is shown as %q", shown)
	}
	b.signIn()
	b.waitVisible(`button[value="allow"]`)
	clean("consent page")
	b.navigate(w.AuthURL + "/authorize?client_id=" + escaped + "&redirect_uri=" + escaped)
	b.waitHeading("not valid")
	clean("error page")
	b.navigate(w.AuthURL + "/logout?client_id=notes-spa")
	b.waitHeading("Sign out?")
	clean("logout page")
	// The policy stands even if a script got in.
	b.eval(`(() => { const s = document.createElement("script"); s.textContent = "window.xss=1"; document.body.append(s); return 0 })()`)
	if ran := b.eval(`String(window.xss)`); ran != "undefined" {
		t.Error("an inline script ran")
	}
}
