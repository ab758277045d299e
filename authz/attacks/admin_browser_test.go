package attacks

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestG40PageOfAnotherOriginInABrowser: it is at the same host, so that the
// browser brings every cookie along, and it even has the operator's token.
func TestG40PageOfAnotherOriginInABrowser(t *testing.T) {
	o := newOperated(t)
	operator := o.Browser()
	token := signInOf(o.Server, operator, "alice").AccessToken
	evil := listen(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>evil</title><h1>evil</h1>")
	})})
	b := chromium(t)
	issuer, err := url.Parse(o.URL)
	check(t, err)
	for _, c := range operator.Jar.Cookies(issuer) {
		b.setCookie(o.URL, c.Name, c.Value)
	}
	fetch := func(options string) string {
		t.Helper()
		b.eval(fmt.Sprintf(`(window.got = undefined, fetch(%q, %s).then((r) => r.type + " " + r.status, () => "failed").then((text) => window.got = text), 0)`, o.URL+o.blockPath(), options))
		b.waitFor(`window.got`)
		return b.eval(`window.got`)
	}
	authorized := fmt.Sprintf(`{method: "POST", headers: {Authorization: "Bearer %s"}}`, token)

	b.navigate(o.URL + "/jwks") // a page of the issuer's own origin
	if got := fetch(authorized); got != "basic 200" || o.User("mallory").Block == nil {
		t.Fatalf("at its own origin: %s", got)
	}
	check(t, o.Revoker.UnblockUser(t.Context(), o.victim.ID))
	o.victim = o.User("mallory")

	b.navigate(evil)
	for why, c := range map[string]struct{ options, want string }{
		"the token":       {authorized, "failed"},
		"cookies":         {`{method: "POST", credentials: "include"}`, "failed"},
		"a simple post":   {`{method: "POST", credentials: "include", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: "{}"}`, "failed"},
		"a form's fields": {`{method: "POST", credentials: "include", mode: "no-cors", body: new URLSearchParams({reason: "x"})}`, "failed"},
	} {
		if got := fetch(c.options); got != c.want {
			t.Errorf("%s: %s", why, got)
		}
		o.untouched(why)
	}
	b.eval(fmt.Sprintf(`(() => { const f = document.createElement("form"); f.method = "post"; f.action = %q; document.body.append(f); f.submit(); return 0 })()`, o.URL+o.blockPath()))
	b.waitFor(`document.body.innerText.includes('"status":403')`)
	o.untouched("a form")
	if !strings.Contains(o.Log.String(), `Sec-Fetch-Site is [\"same-site\"]`) {
		t.Error("the browser did not come as from the same site")
	}
}
