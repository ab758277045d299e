package login

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// cookieNames are the names of our cookies. __Host- makes a browser accept
// them only from this very host, over https (RFC 6265bis §4.1.3.2).
type cookieNames struct {
	session string // who is signed in: session id and secret
	browser string // which browser it is: what pending requests and forms are bound to
	device  string // who has signed in here before, sealed
	secure  bool
}

func namesFor(development bool) cookieNames {
	if development {
		return cookieNames{"solegate-session", "solegate-browser", "solegate-device", false}
	}
	return cookieNames{"__Host-solegate-session", "__Host-solegate-browser", "__Host-solegate-device", true}
}

// deviceLife is how long a browser is remembered for the throttle.
const deviceLife = 180 * 24 * time.Hour

var b64 = base64.RawURLEncoding.Strict()

func (l *Login) set(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", HttpOnly: true, Secure: l.cookies.secure,
		SameSite: http.SameSiteLaxMode, MaxAge: int(life / time.Second),
	})
}

func (l *Login) clear(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", HttpOnly: true, Secure: l.cookies.secure, SameSite: http.SameSiteLaxMode, MaxAge: -1})
}

// value returns the cookie's value if there is exactly one: a second one was
// planted from somewhere.
func value(r *http.Request, name string) (string, bool) {
	found := r.CookiesNamed(name)
	if len(found) != 1 || len(found[0].Value) > 4096 {
		return "", false
	}
	return found[0].Value, true
}

func (l *Login) setSessionCookie(w http.ResponseWriter, s storage.Session, secret []byte) {
	l.set(w, l.cookies.session, string(s.ID)+"."+b64.EncodeToString(secret), l.SessionLife)
}

func (l *Login) sessionCookie(r *http.Request) (storage.SessionID, []byte, bool) {
	v, ok := value(r, l.cookies.session)
	if !ok {
		return "", nil, false
	}
	i := strings.LastIndexByte(v, '.')
	if i < 1 {
		return "", nil, false
	}
	id := v[:i]
	secret, err := b64.DecodeString(v[i+1:])
	if err != nil || len(secret) != 32 {
		return "", nil, false
	}
	return storage.SessionID(id), secret, true
}

// browser returns what this browser is known by, and gives it one if it has
// none.
func (l *Login) browser(w http.ResponseWriter, r *http.Request) (string, error) {
	if v, ok := l.knownBrowser(r); ok {
		return v, nil
	}
	id := make([]byte, 24)
	if _, err := io.ReadFull(l.Rand, id); err != nil {
		return "", err
	}
	v := b64.EncodeToString(id)
	l.set(w, l.cookies.browser, v, 0) // until the browser is closed
	return v, nil
}

func (l *Login) knownBrowser(r *http.Request) (string, bool) {
	v, ok := value(r, l.cookies.browser)
	return v, ok && len(v) == 32
}

const devicePurpose = "device"

// device is who has signed in in this browser before. Its ID is random: each
// browser's guesses are counted apart.
type device struct {
	ID    string           `json:"d"`
	Users []storage.UserID `json:"u"`
	At    time.Time        `json:"t"`
}

// deviceUsers bounds how many accounts a browser is remembered for.
const deviceUsers = 5

func (l *Login) knownDevice(r *http.Request) device {
	var d device
	v, ok := value(r, l.cookies.device)
	if !ok {
		return d
	}
	plain, err := l.Unseal(devicePurpose, v)
	if err != nil || json.Unmarshal(plain, &d) != nil || l.Now().Sub(d.At) > deviceLife {
		return device{}
	}
	return d
}

func (l *Login) rememberDevice(w http.ResponseWriter, r *http.Request, u storage.UserID) error {
	d := l.knownDevice(r)
	if d.ID == "" {
		id, err := clients.NewID(l.Rand)
		if err != nil {
			return err
		}
		d.ID = string(id)
	}
	d.Users = append([]storage.UserID{u}, slices.DeleteFunc(d.Users, func(x storage.UserID) bool { return x == u })...)
	d.Users = d.Users[:min(len(d.Users), deviceUsers)]
	d.At = l.Now()
	plain, err := json.Marshal(d)
	if err != nil {
		return err
	}
	l.set(w, l.cookies.device, l.Seal(devicePurpose, plain), deviceLife)
	return nil
}

// antiForgery is what a form's token says, sealed.
type antiForgery struct {
	Browser string    `json:"b"`
	Session string    `json:"s,omitempty"`
	Address string    `json:"a,omitempty"`
	At      time.Time `json:"t"`
}

// ErrForgery says that a form did not come from a page of ours in this
// browser, or that the page was too old.
var ErrForgery = errors.New("the form did not come from this server's page")

func (l *Login) now(r *http.Request, browser string) antiForgery {
	t := antiForgery{Browser: browser, At: l.Now()}
	if id, _, ok := l.sessionCookie(r); ok {
		t.Session = string(id)
	}
	if l.BindAddress {
		t.Address = l.Address(r).String()
	}
	return t
}

// Token returns the anti-forgery token for a form: bound to the purpose, the
// browser, the session, the time and, if configured, the address. The browser
// must have its cookie already, or get it by w.
func (l *Login) Token(w http.ResponseWriter, r *http.Request, purpose string) (string, error) {
	browser, err := l.browser(w, r)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(l.now(r, browser))
	if err != nil {
		return "", err
	}
	return l.Seal("form: "+purpose, plain), nil
}

// CheckToken returns nil if Token made the token for the same purpose in this
// browser and session, not too long ago; else ErrForgery.
func (l *Login) CheckToken(r *http.Request, purpose, token string) error {
	browser, ok := l.knownBrowser(r)
	if !ok {
		return errors.Join(ErrForgery, errors.New("no browser cookie"))
	}
	plain, err := l.Unseal("form: "+purpose, token)
	if err != nil {
		return errors.Join(ErrForgery, err)
	}
	var got antiForgery
	if err := json.Unmarshal(plain, &got); err != nil {
		return errors.Join(ErrForgery, err)
	}
	want := l.now(r, browser)
	age := want.At.Sub(got.At)
	want.At = got.At
	if got != want {
		return errors.Join(ErrForgery, errors.New("token of another browser, session or address"))
	}
	if age > l.Life || age < -time.Minute {
		return errors.Join(ErrForgery, errors.New("the token is too old"))
	}
	return nil
}
