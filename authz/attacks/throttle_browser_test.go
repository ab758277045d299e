package attacks

import (
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/cmd/demo/stage"
	"github.com/solegate/solegate/storage"
)

// TestThrottledAppStaysSignedIn: the app's library is told to come again later,
// keeps what it has, and goes on with that when it may.
func TestThrottledAppStaysSignedIn(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	u, err := w.Store.UserByName(t.Context(), stage.User)
	check(t, err)
	operator := authztest.Operator(w.Store, time.Now)
	check(t, operator.ThrottleUser(t.Context(), u.ID, storage.Throttle{Rule: "flood", Every: storage.MaxEvery}))
	refresh := func() {
		b.eval(`document.getElementById("log").replaceChildren()`)
		b.press("Refresh")
	}
	refresh()
	b.works("Refresh")
	for range 2 {
		refresh()
		if text := b.fails("Refresh"); !strings.Contains(text, "temporarily_unavailable") {
			t.Errorf("the app is told %q", text)
		}
	}
	b.press("Call the API")
	b.works("Call the API")
	// Its access token runs out, and the page is loaded anew.
	reload := func() {
		b.eval(`(() => {
			const [key, text] = Object.entries(localStorage).find(([k]) => k.startsWith("oidc.user:"));
			localStorage.setItem(key, JSON.stringify({ ...JSON.parse(text), expires_at: 1 }));
			window.old = true;
			location.reload();
		})(), 0`)
		b.waitFor(`!window.old && document.documentElement.dataset.ready === "true"`)
	}
	before := steal(b).Refresh
	reload()
	b.fails("Renewal")
	if steal(b).Refresh != before {
		t.Error("the page has forgotten its refresh token")
	}
	check(t, operator.Lift(t.Context(), u.ID, "test"))
	reload()
	if who := b.eval(`document.getElementById("who").textContent`); who != "Signed in as alice" {
		t.Errorf("when it may again: %s", who)
	}
	refresh()
	b.works("Refresh")
	if grants := w.grants(); len(grants) != 1 || !grants[0].RevokedAt.IsZero() {
		t.Errorf("grants %+v", grants)
	}
}
