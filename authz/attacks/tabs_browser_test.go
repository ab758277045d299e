package attacks

import (
	"fmt"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/solegate/solegate/authz/authztest"
)

// second opens another tab of the same browser.
func (b *tab) second() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b)
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		b.t.Fatal(err)
	}
	return &tab{ctx, b.t}
}

// click presses a button without a mouse, for a tab that may be in the
// background.
func (b *tab) click(text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf(`[...document.querySelectorAll("#actions button")].find((b) => b.textContent === %q).click()`, text))
}

// atOnce presses a button in all tabs at the same moment.
func atOnce(text string, tabs ...*tab) {
	var work sync.WaitGroup
	for _, b := range tabs {
		b.eval(`document.getElementById("log").replaceChildren()`)
		work.Go(func() { b.click(text) })
	}
	work.Wait()
}

func TestReloadKeepsTheLogin(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	before := steal(b).Access
	b.eval(`(window.old = true, location.reload(), 0)`)
	b.waitFor(`!window.old && document.documentElement.dataset.ready === "true"`)
	if who := b.eval(`document.getElementById("who").textContent`); who != "Signed in as alice" {
		t.Errorf("after the reload: %s", who)
	}
	b.press("Call the API")
	b.works("Call the API")
	b.press("Refresh")
	b.works("Refresh")
	after := steal(b).Access
	if x, y := authztest.Claims(t, before)["cnf"], authztest.Claims(t, after)["cnf"]; fmt.Sprint(x) != fmt.Sprint(y) || before == after {
		t.Errorf("bound to %v before, to %v after", x, y)
	}
	if n := len(w.grants()); n != 1 {
		t.Errorf("%d grants, one expected: a reload is no login", n)
	}
}

func TestD23TabsRefreshAtOnce(t *testing.T) {
	for name, script := range map[string]string{
		"the tabs wait for each other": `0`,
		// As in a browser that has no locks: then it is the server's grace
		// window that keeps everybody signed in.
		"they do not": `(Object.defineProperty(navigator, "locks", { value: { request: (_, act) => act() } }), 0)`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := chromium(t)
			w.signedIn(first)
			tabs := []*tab{first, first.second(), first.second()}
			for _, b := range tabs[1:] {
				b.openApp(w.SPAURL)
			}
			for _, b := range tabs {
				b.eval(script)
			}
			for range 3 {
				atOnce("Refresh", tabs...)
				for _, b := range tabs {
					b.works("Refresh")
				}
			}
			atOnce("Call the API", tabs...)
			for _, b := range tabs {
				b.works("Call the API")
			}
			if n := w.live(); n != 1 || len(w.grants()) != 1 {
				t.Errorf("%d live grants of %d, one expected", n, len(w.grants()))
			}

			// Whoever signs out is out in every tab.
			first.click("Sign out")
			for _, b := range tabs[1:] {
				b.waitFor(`document.getElementById("who").textContent === "Not signed in"`)
			}
		})
	}
}

func TestTabsTakeTurnsToRefresh(t *testing.T) {
	w := newWorld(t)
	first := chromium(t)
	w.signedIn(first)
	tabs := []*tab{first.second(), first.second()}
	for _, b := range tabs {
		b.openApp(w.SPAURL)
	}
	before := w.grants()[0].Generation
	// Both want to while the first is at it.
	first.eval(`(navigator.locks.request("session", () => new Promise((done) => { window.done = done })), 0)`)
	first.waitFor(`window.done`)
	atOnce("Refresh", tabs...)
	first.eval(`(window.waiting = 0, window.timer = setInterval(async () => { waiting = (await navigator.locks.query()).pending.length }, 20), 0)`)
	first.waitFor(`waiting === 2`)
	first.eval(`(clearInterval(timer), done(), 0)`)
	for _, b := range tabs {
		b.works("Refresh")
	}
	if all := w.grants(); len(all) != 1 || all[0].Generation != before+1 {
		t.Errorf("%+v; one grant that was refreshed once expected", all)
	}
	for _, b := range append(tabs, first) {
		b.click("Call the API")
		b.works("Call the API")
	}
}
