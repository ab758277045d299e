package attacks

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
)

func TestStepUp(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	b.navigate(w.AuthURL + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {string(w.Client.ID)}, "redirect_uri": {string(w.Client.RedirectURIs[0])}, "scope": {"openid"}, "state": {"x"},
		"code_challenge": {authztest.Challenge(authztest.Verifier)}, "code_challenge_method": {"S256"},
	}.Encode())
	b.signIn()
	b.fails("Back from the login") // the app did not ask for it, but there is a session
	// The person signed in two minutes ago.
	session := w.sessions()[0]
	session.AuthTime = session.AuthTime.Add(-2 * time.Minute)
	check(t, w.Store.RenewSession(t.Context(), session))

	b.openApp(w.SPAURL)
	b.press("Sign in")
	b.works("Back from the login")
	b.press("Write a note")
	b.works("Write a note")
	b.press("Delete all notes")
	b.waitVisible("#username")
	b.signIn()
	b.works("Delete all notes")
	b.press("Call the API")
	if text := b.works("Call the API"); strings.Contains(text, "Written at") {
		t.Errorf("the note is still there: %s", text)
	}
	// The login is a minute young, so now it is done at once.
	b.press("Write a note")
	b.works("Write a note")
	b.press("Delete all notes")
	b.works("Delete all notes")
}
