// Package pages renders what a person sees: HTML that works without a script,
// in light and dark, by keyboard and screen reader. It decides nothing.
//
// Each page is an exported struct; [Pages.Write] renders it. Every value is
// escaped by html/template, and the headers that [Headers.Set] writes forbid
// scripts, frames and everything that is not ours.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed templates/*.html style.css icon.svg
var files embed.FS

// AssetPath is below what Pages serves its style sheet and icon. The names
// hold a hash of the content, so they may be kept for ever.
const AssetPath = "/assets/"

// Login asks who it is.
type Login struct {
	ClientName string
	Request    string // the sealed authorization request
	Token      string // the anti-forgery token
	Username   string // what was typed before, or a hint
	// Problem says what went wrong with the last try.
	Problem string
}

// Consent asks whether the client may have what it asks for.
type Consent struct {
	ClientName string
	Username   string
	Scopes     []Scope
	Request    string
	Token      string
}

// Scope is something that a client may be allowed, in words.
type Scope struct{ Name, Text string }

// Logout asks whether to sign out.
type Logout struct {
	ClientName string
	Request    string
	Token      string
}

// LoggedOut says that it is done.
type LoggedOut struct{}

// Error says what went wrong, in words of ours.
type Error struct {
	Title     string
	Text      string
	RequestID string
}

// Index says where one is.
type Index struct{ Issuer string }

// Pages renders pages and serves what they are made of.
type Pages struct {
	templates map[string]*template.Template
	assets    map[string]asset
}

type asset struct {
	contentType string
	body        []byte
}

// New returns the pages.
func New() *Pages {
	p := &Pages{templates: map[string]*template.Template{}, assets: map[string]asset{}}
	names := map[string]string{}
	for name, contentType := range map[string]string{"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} {
		body := must(files.ReadFile(name))
		sum := sha256.Sum256(body)
		stem, ending, _ := strings.Cut(name, ".")
		path := AssetPath + stem + "-" + hex.EncodeToString(sum[:8]) + "." + ending
		names[name], p.assets[path] = path, asset{contentType, body}
	}
	layout := template.Must(template.New("layout.html").
		Funcs(template.FuncMap{"asset": func(name string) string { return names[name] }}).
		ParseFS(files, "templates/layout.html"))
	for _, name := range []string{"login", "consent", "logout", "loggedout", "error", "index"} {
		p.templates[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return p
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // what is embedded is there
	}
	return v
}

// Write answers with a page: one of the structs of this package.
func (p *Pages) Write(w http.ResponseWriter, h Headers, status int, page any) {
	name := ""
	switch page.(type) {
	case Login:
		name = "login"
	case Consent:
		name = "consent"
	case Logout:
		name = "logout"
	case LoggedOut:
		name = "loggedout"
	case Error:
		name = "error"
	case Index:
		name = "index"
	}
	var b bytes.Buffer
	if err := p.templates[name].ExecuteTemplate(&b, "layout.html", page); err != nil {
		panic(err) // a template that does not fit its struct: its test fails
	}
	h.Set(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// ServeHTTP serves the assets.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.Write(a.body)
}

// Headers are the headers that every page has.
type Headers struct {
	// Secure is set when the server is reached by https.
	Secure bool
	// FormAction is the origin, beside our own, that the page's form may end
	// up at: browsers hold the redirect after a post to the same policy.
	FormAction string
}

// Set writes the headers: no script, no frame around the page, no handle on
// its window, no copy in a cache, no referrer.
func (h Headers) Set(w http.ResponseWriter) {
	action := "'self'"
	if scheme, host, ok := strings.Cut(h.FormAction, "://"); ok && strings.HasPrefix(host, "[") {
		action += " " + scheme + ":" // a policy can't name an IPv6 address (CSP3 §2.3.1)
	} else if ok {
		action += " " + h.FormAction
	}
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action "+action+"; base-uri 'none'; frame-ancestors 'none'")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Embedder-Policy", "require-corp")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if h.Secure {
		header.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
