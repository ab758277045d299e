package attacks

import (
	"strings"
	"testing"
)

func TestHonestApp(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	if at := b.location(); at != w.SPAURL+"/" {
		t.Errorf("the address shows %s", at)
	}
	b.press("Write a note")
	b.works("Write a note")
	b.press("Call the API")
	if text := b.works("Call the API"); !strings.Contains(text, "Written at") {
		t.Errorf("the API does not have the note: %s", text)
	}
	b.press("Refresh")
	b.works("Refresh")
	b.press("Revoke")
	b.works("Revoke")
	b.press("Refresh")
	if text := b.fails("Refresh"); !strings.Contains(text, "invalid_grant") {
		t.Errorf("refreshing with the revoked token failed for another reason: %s", text)
	}
	b.press("Sign out")
	b.waitFor(`location.href === "` + w.SPAURL + `/" && document.documentElement.dataset.ready === "true" && document.querySelectorAll("#log li").length === 0`)
	for _, s := range w.sessions() {
		if s.EndedAt.IsZero() {
			t.Errorf("the session lives on: %+v", s)
		}
	}
}

// Each first proof is refused for want of the server's nonce.
func TestHonestAppWithNonce(t *testing.T) {
	w := newWorld(t)
	c, err := w.Store.Client(t.Context(), w.Client.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.RequireDPoP, c.RequireDPoPNonce = true, true
	if err := w.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b := chromium(t)
	w.signedIn(b)
	if who := b.eval(`document.getElementById("who").textContent`); who != "Signed in as alice" {
		t.Errorf("the app shows %q", who)
	}
	b.press("Call the API")
	b.works("Call the API")
	b.press("Refresh")
	b.works("Refresh")
	b.press("Revoke")
	b.works("Revoke")
	b.press("Refresh")
	if text := b.fails("Refresh"); !strings.Contains(text, "invalid_grant") {
		t.Errorf("refreshing with the revoked token failed for another reason: %s", text)
	}
}

func TestHonestAppWithConsentIsAsked(t *testing.T) {
	w := newWorld(t)
	c, err := w.Store.Client(t.Context(), w.Client.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.Consent = true
	if err := w.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b := chromium(t)
	b.openApp(w.SPAURL)
	b.press("Sign in")
	b.signIn()
	b.press("Allow")
	b.works("Back from the login")
}

func TestA1CopyWithItsOwnRedirectURI(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b) // the copy may even count on a live session
	before := len(w.grants())
	b.openApp(w.CopyURL)
	b.press("Sign in with my own redirect URI")
	b.waitHeading("not valid")
	if at := b.location(); !strings.HasPrefix(at, w.AuthURL+"/authorize?") {
		t.Errorf("the browser is at %s", at)
	}
	if text := b.eval(`document.body.innerText`); strings.Contains(text, w.CopyURL) || !strings.Contains(text, "name this request") {
		t.Errorf("the page says %s", text)
	}
	if n := len(w.grants()); n != before {
		t.Errorf("%d grants, %d before", n, before)
	}
	if log := w.log.String(); !strings.Contains(log, `"audit":true,"client":"notes-spa","redirect_uri":"`+w.CopyURL+`/callback"`) {
		t.Error("the audit log does not name the refused redirect URI")
	}
}

func TestA2CopyWithTheGenuineRedirectURI(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	b.openApp(w.CopyURL)
	b.press("Sign in with the genuine redirect URI")
	b.signIn()
	text := b.fails("Back from the login")
	if !strings.Contains(text, "state") {
		t.Errorf("the genuine app refuses for another reason: %s", text)
	}
	if at := b.location(); at != w.SPAURL+"/" {
		t.Errorf("the browser is at %s", at)
	}
	for _, g := range w.grants() {
		if !g.RedeemedAt.IsZero() {
			t.Errorf("the code was redeemed: %+v", g)
		}
	}
}

func TestA2CopyWatchesTheWindow(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	b.openApp(w.CopyURL)
	b.eval(`(window.told = [], addEventListener("message", (e) => told.push(String(e.data))))`)
	history := b.eval(`String(history.length)`)
	b.press("Open the login page in a pop-up")
	// The user is signed in, so the pop-up goes to the genuine app at once.
	popup := b.other(w.SPAURL)
	popup.fails("Back from the login")
	if opener := popup.eval(`window.opener === null`); opener != "true" {
		t.Error("the genuine app's window has the copy as its opener")
	}
	if referrer := popup.eval(`document.referrer`); strings.Contains(referrer, "code") || strings.Contains(referrer, w.AuthURL) {
		t.Errorf("referrer %q", referrer)
	}
	b.fails("Open the login page in a pop-up")
	if told := b.eval(`JSON.stringify(told) + JSON.stringify(performance.getEntries().map((e) => e.name))`); strings.Contains(told, "code=") {
		t.Errorf("the copy learned %s", told)
	}
	if now := b.eval(`String(history.length)`); now != history {
		t.Errorf("the copy's history has %s entries, %s before: it counts what the login does", now, history)
	}
}

func TestA3CopyFramesTheLogin(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	b.openApp(w.CopyURL)
	b.press("Frame the login page")
	b.fails("Frame the login page")
	for _, sandbox := range []string{"", `frame.sandbox = "allow-scripts allow-forms";`, `frame.sandbox = "allow-scripts allow-same-origin allow-top-navigation";`} {
		for _, path := range []string{"/", "/login", "/consent", "/logout", "/logout/done", "/authorize?client_id=notes-spa"} {
			b.eval(`(() => { const frame = document.createElement("iframe"); ` + sandbox + ` window.loaded = false; frame.onload = () => { loaded = true }; frame.src = "` + w.AuthURL + path + `"; document.getElementById("stage").replaceChildren(frame); return 0 })()`)
			b.waitFor(`window.loaded`)
			for _, at := range b.frames() {
				if !strings.HasPrefix(at, "chrome-error:") && !strings.HasPrefix(at, "unreachable:") {
					t.Errorf("%s is shown in a frame (%s)", at, sandbox)
				}
			}
		}
	}
	// A frame inside a frame: the one between is nobody's to ask.
	for _, path := range []string{"/login", "/consent", "/authorize?client_id=notes-spa"} {
		b.eval(`(() => { const frame = document.createElement("iframe"); window.loaded = false; frame.onload = () => { loaded = true }; frame.srcdoc = '<iframe src="` + w.AuthURL + path + `"></iframe>'; document.getElementById("stage").replaceChildren(frame); return 0 })()`)
		b.waitFor(`window.loaded`)
		inner := 0
		for _, at := range b.frames() {
			switch {
			case at == "about:srcdoc":
			case strings.HasPrefix(at, "chrome-error:"), strings.HasPrefix(at, "unreachable:"):
				inner++
			default:
				t.Errorf("%s is shown in a frame inside a frame", at)
			}
		}
		if inner != 1 {
			t.Errorf("%s: %d refused frames inside the frame, 1 expected", path, inner)
		}
	}
}

func TestA4PopUpHandleIsCut(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	b.openApp(w.CopyURL)
	b.press("Open the login page in a pop-up")
	popup := b.other(w.AuthURL)
	popup.waitVisible("#username")
	if opener := popup.eval(`window.opener === null`); opener != "true" {
		t.Error("the login page has an opener")
	}
	if text := b.fails("Open the login page in a pop-up"); !strings.Contains(text, "cut") {
		t.Errorf("the copy says %s", text)
	}
}

func TestA5CopyFetches(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	b.press("Call the API")
	b.works("Call the API")
	b.openApp(w.CopyURL)
	for _, attempt := range []string{"Ask for tokens", "Ask who is signed in", "Call the API"} {
		b.press(attempt)
		text := b.fails(attempt)
		if !strings.Contains(text, "CORS") {
			t.Errorf("%s: %s", attempt, text)
		}
	}
	// The rest of what a client asks for: nothing is read, and nothing done.
	before := len(w.grants())
	for _, path := range []string{"/token", "/par", "/revoke"} {
		for _, header := range []string{``, `, DPoP: "x"`} { // with and without being asked first
			b.eval(`(() => { window.got = ""; fetch("` + w.AuthURL + path + `", { method: "POST", headers: { "Content-Type": "application/x-www-form-urlencoded"` + header + ` }, body: "client_id=notes-spa&token=x" }).then(() => { got = "an answer" }, (e) => { got = e.name }); return 0 })()`)
			b.waitFor(`window.got`)
			if got := b.eval(`got`); got != "TypeError" {
				t.Errorf("%s: the copy got %s", path, got)
			}
		}
	}
	if n := len(w.grants()); n != before {
		t.Errorf("%d grants, %d before", n, before)
	}
}

func TestA6HiddenFrameLearnsNothing(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	before := len(w.grants())
	b.openApp(w.CopyURL)
	b.press("Renew silently in a hidden frame")
	b.fails("Renew silently in a hidden frame")
	for _, at := range b.frames() {
		if !strings.HasPrefix(at, "chrome-error:") && !strings.HasPrefix(at, "unreachable:") {
			t.Errorf("the frame is at %s", at)
		}
	}
	if n := len(w.grants()); n != before {
		t.Errorf("%d grants, %d before", n, before)
	}
}
