package attacks

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/cmd/demo/stage"
	"github.com/solegate/solegate/storage"
)

// world is the stage with its log.
type world struct {
	*stage.Stage
	t   *testing.T
	log *authztest.Log
}

func newWorld(t *testing.T, options ...func(*stage.Config)) *world {
	t.Helper()
	log := &authztest.Log{}
	c := stage.Config{
		Folder: t.TempDir(), Files: filepath.Join("..", "..", "clients", "spa", "dist"), Password: authztest.Quick,
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, option := range options {
		option(&c)
	}
	s, err := stage.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &world{s, t, log}
}

// grants lists the user's grants.
func (w *world) grants() []storage.Grant {
	w.t.Helper()
	u, err := w.Store.UserByName(w.t.Context(), stage.User)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := w.Store.ListGrants(w.t.Context(), u.ID, storage.Page{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// sessions lists the user's sessions.
func (w *world) sessions() []storage.Session {
	w.t.Helper()
	u, err := w.Store.UserByName(w.t.Context(), stage.User)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := w.Store.ListSessions(w.t.Context(), u.ID, storage.Page{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// tab is a tab of a Chromium with a profile of its own.
type tab struct {
	context.Context
	t *testing.T
}

// patience is how long anything in the browser may take.
const patience = 20 * time.Second

// chromium starts a browser.
func chromium(t *testing.T) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium: install it (on Debian: apt-get install chromium); make test does")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1200, 900),
		chromedp.Headless, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.DisableGPU,
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-popup-blocking", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's own sandbox does not start as root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancel()
		stop()
	})
	// The first run starts the browser, which lives as long as its context.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return &tab{ctx, t}
}

// do runs actions and fails the test if they don't succeed in time.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.fatal(err)
	}
}

// fatal fails the test and says what the tab shows.
func (b *tab) fatal(err error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, 2*time.Second)
	defer cancel()
	shown, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	b.t.Fatalf("%v; the tab shows %.2000s", err, shown)
}

func (b *tab) navigate(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// eval evaluates JavaScript in the page and returns its result as text.
func (b *tab) eval(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		b.fatal(fmt.Errorf("%s: %w", script, err))
	}
	return result
}

// waitFor waits until a JavaScript expression is true, also while the tab goes
// from page to page.
func (b *tab) waitFor(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")")); err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.fatal(fmt.Errorf("%s did not become true within %s", expression, patience))
		case <-tick.C:
		}
	}
}

// waitVisible waits until an element is on the page.
func (b *tab) waitVisible(css string) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf("document.readyState === 'complete' && document.querySelector(%q)", css))
}

// waitHeading waits for a page whose heading has the text.
func (b *tab) waitHeading(text string) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf("document.querySelector('h1')?.textContent.includes(%q)", text))
}

// openApp navigates to the sample app and waits until it is ready.
func (b *tab) openApp(url string) {
	b.t.Helper()
	b.navigate(url)
	b.ready()
}

func (b *tab) ready() {
	b.t.Helper()
	b.waitFor(`document.documentElement.dataset.ready === "true"`)
}

// press presses a button by its text, the last one of that text.
func (b *tab) press(text string) {
	b.t.Helper()
	button := fmt.Sprintf(`[...document.querySelectorAll("button")].filter((b) => b.textContent.trim() === %q && !b.disabled && b.offsetParent).at(-1)`, text)
	b.waitFor(button)
	// A real click, by the mouse: what needs a user's gesture has one.
	b.eval(button + `.scrollIntoView({block: "center"})`)
	var x, y float64
	if _, err := fmt.Sscanf(b.eval(`(() => { const r = `+button+`.getBoundingClientRect(); return (r.x + r.width / 2) + " " + (r.y + r.height / 2) })()`), "%g %g", &x, &y); err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.MouseClickXY(x, y))
}

// signIn fills in the login page that the tab shows.
func (b *tab) signIn() {
	b.t.Helper()
	b.waitVisible("#username")
	b.eval(fmt.Sprintf(`(username.value = %q, password.value = %q)`, stage.User, stage.Password))
	b.press("Sign in")
}

// noted waits until the newest entry of the sample app's log is about what, and
// returns its kind ("good" or "bad") and text.
func (b *tab) noted(what string) (kind, text string) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf(`document.querySelector("#log li small")?.textContent.startsWith(%q)`, what+" ·"))
	return b.eval(`document.querySelector("#log li").className`), b.eval(`document.querySelector("#log li").innerText`)
}

func (b *tab) fails(what string) string {
	b.t.Helper()
	kind, text := b.noted(what)
	if kind != "bad" {
		b.t.Errorf("%s: %s: %s", what, kind, text)
	}
	return text
}

func (b *tab) works(what string) string {
	b.t.Helper()
	kind, text := b.noted(what)
	if kind != "good" {
		b.t.Errorf("%s: %s: %s", what, kind, text)
	}
	return text
}

func (b *tab) location() string {
	b.t.Helper()
	return b.eval("location.href")
}

// other attaches to the tab that is not this one, once there is one whose
// address has the prefix.
func (b *tab) other(prefix string) *tab {
	b.t.Helper()
	own := chromedp.FromContext(b).Target.TargetID
	deadline := time.After(patience)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := chromedp.Targets(b)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, info := range all {
			if info.TargetID != own && info.Type == "page" && strings.HasPrefix(info.URL, prefix) {
				ctx, cancel := chromedp.NewContext(b, chromedp.WithTargetID(info.TargetID))
				b.t.Cleanup(cancel)
				if err := chromedp.Do(ctx); err != nil {
					b.t.Fatal(err)
				}
				return &tab{ctx, b.t}
			}
		}
		select {
		case <-deadline:
			b.t.Fatalf("no other tab at %s", prefix)
		case <-tick.C:
		}
	}
}

// frames returns the addresses of all frames below the page.
func (b *tab) frames() []string {
	b.t.Helper()
	result, err := chromedp.Call(b, page.GetFrameTree, cdp.Empty{})
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	var walk func(*page.FrameTree)
	walk = func(t *page.FrameTree) {
		for _, child := range t.ChildFrames {
			if child.Frame.UnreachableURL != "" {
				all = append(all, "unreachable:"+child.Frame.URL)
			} else {
				all = append(all, child.Frame.URL)
			}
			walk(child)
		}
	}
	walk(result.FrameTree)
	return all
}

// setCookie plants a cookie at an address.
func (b *tab) setCookie(url, name, value string) {
	b.t.Helper()
	if _, err := chromedp.Call(b, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: url, Path: "/"}); err != nil {
		b.t.Fatal(err)
	}
}

// cookie returns a cookie that the browser would send to an address.
func (b *tab) cookie(url, name string) string {
	b.t.Helper()
	result, err := chromedp.Call(b, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range result.Cookies {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// signedIn opens the genuine app and signs in: the honest variant of it all.
func (w *world) signedIn(b *tab) {
	w.t.Helper()
	b.openApp(w.SPAURL)
	b.press("Sign in")
	b.signIn()
	b.works("Back from the login")
}
