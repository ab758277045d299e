package guard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// Route is a part of the API and what it takes to get there. With neither
// Scopes nor Login it takes any token that passes.
//
// A path that has a second spelling is refused before its route is looked for:
// with an empty segment, a "." or "..", an encoded slash, backslash, percent
// sign, semicolon, question mark or hash, a letter that is encoded, a semicolon,
// or a segment that ends with a dot. Then, as many frameworks don't mind upper
// and lower case, a slash at the end, or a suffix such as .json, a path is
// refused that would be another route's by that, with other demands: with the
// routes GET /{page} and GET /admin, GET /Admin, /admin/ and /admin.json are
// nobody's.
type Route struct {
	// Pattern is a method and a path, or a path for all methods, as in
	// [http.ServeMux], without a host: "GET /orders/{id}". GET is HEAD, too,
	// and /orders/ is all that is below it.
	Pattern string

	// Scopes are what the token must have, all of them.
	Scopes []string

	// Login is how the person must have logged in; the zero value means that
	// it doesn't matter.
	Login verify.Login

	// Public lets everybody through, without any check and without identity.
	// Scopes and Login must be empty.
	Public bool
}

// ParseRoute reads a route in one line: a pattern, and after a = what it takes,
// with spaces between: scopes, max_age=1m, acr=NAME.
//
//	GET /orders=orders:read
//	DELETE /orders/{id}=orders:write max_age=1m
//	/me
//
// A path with a = in it is written with %3D. A public route can't be written so:
// no slip makes one.
func ParseRoute(text string) (Route, error) {
	pattern, demands, some := strings.Cut(text, "=")
	r := Route{Pattern: strings.TrimSpace(pattern)}
	if some && strings.TrimSpace(demands) == "" {
		return r, fmt.Errorf("%q: a scope is expected after the =; leave the = away if any token will do", text)
	}
	for _, word := range strings.Fields(demands) {
		name, value, option := strings.Cut(word, "=")
		switch {
		case option && name == "max_age":
			age, err := time.ParseDuration(value)
			if err != nil || age <= 0 || r.Login.MaxAge != 0 {
				return r, fmt.Errorf("%q: one max_age, such as max_age=90s, is expected", text)
			}
			r.Login.MaxAge = age
		case option && name == "acr":
			r.Login.ACR = append(r.Login.ACR, value)
		default:
			r.Scopes = append(r.Scopes, word)
		}
	}
	return r, r.valid()
}

func (r *Route) fresh() bool { return r.Login.MaxAge != 0 || len(r.Login.ACR) > 0 }

func (r *Route) valid() error {
	method, path, found := strings.Cut(r.Pattern, " ")
	if !found {
		method, path = "", r.Pattern
	}
	if found {
		if err := sensibleMethod(method); err != nil {
			return fmt.Errorf("%q: %w", r.Pattern, err)
		}
	}
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%q: a method and a path are expected, such as GET /orders", r.Pattern)
	}
	// As the request's path is held to: a route that none could match is a
	// mistake.
	if err := canonical(mapSegments(path, func(string) string { return "x" }, func(s string) string { return s })); err != nil {
		return fmt.Errorf("%q: no request gets here: %w", r.Pattern, err)
	}
	for _, scope := range r.Scopes {
		// RFC 6749 §3.3
		if scope == "" || strings.ContainsFunc(scope, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
			return fmt.Errorf("%q: %q is no scope", r.Pattern, scope)
		}
	}
	if r.fresh() {
		if err := r.Login.Validate(); err != nil {
			return fmt.Errorf("%q: %w", r.Pattern, err)
		}
	}
	if r.Public && (len(r.Scopes) > 0 || r.fresh()) {
		return fmt.Errorf("%q: it is public and demands something: choose one", r.Pattern)
	}
	return nil
}

// mapSegments changes the wildcards of a pattern's path, and the other
// segments. The wildcard {$} is nothing in a request's path.
func mapSegments(path string, wildcard, literal func(string) string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch {
		case !strings.HasPrefix(s, "{"):
			segments[i] = literal(s)
		case s == "{$}":
			segments[i] = strings.TrimPrefix(wildcard(s), "x")
		default:
			segments[i] = wildcard(s)
		}
	}
	return strings.Join(segments, "/")
}

func scopesOf(routes []Route) []string {
	var all []string
	for _, r := range routes {
		all = append(all, r.Scopes...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// route is a Route of the table.
type route struct {
	Route
	demand  string         // equal for two routes that demand the same
	alone   *http.ServeMux // its folded pattern and no other
	handler http.Handler
}

// ServeHTTP makes a route what a ServeMux holds.
func (r *route) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.handler.ServeHTTP(w, req) }

// table finds routes.
type table struct {
	list   []*route
	exact  *http.ServeMux // by the patterns
	folded *http.ServeMux // by the patterns in one case
	lower  bool           // the patterns are in that case anyhow
	same   bool           // all routes demand the same
}

// newTable returns the table of routes, or what is wrong with them.
func newTable(routes []Route) (*table, []Problem) {
	t := &table{exact: http.NewServeMux(), folded: http.NewServeMux(), lower: true, same: true}
	var problems []Problem
	for i := range routes {
		rt := &route{Route: routes[i]}
		bad := func(format string, args ...any) {
			problems = append(problems, Problem{fmt.Sprintf("Routes[%d]", i), fmt.Sprintf(format, args...)})
		}
		if err := rt.valid(); err != nil {
			bad("%v", err)
			continue
		}
		scopes := slices.Clone(rt.Scopes)
		slices.Sort(scopes)
		rt.demand = fmt.Sprintf("%t %q %s %q", rt.Public, slices.Compact(scopes), rt.Login.MaxAge, rt.Login.ACR)
		t.same = t.same && (len(t.list) == 0 || t.list[0].demand == rt.demand)
		folded := foldPattern(rt.Pattern)
		t.lower = t.lower && folded == rt.Pattern
		if !register(t.exact, rt.Pattern, rt) {
			bad("%q: it is no pattern, or neither it nor %s is the more specific one", rt.Pattern, t.rival(rt.Pattern))
			continue
		}
		if !register(t.folded, folded, rt) {
			bad("%q: but for upper and lower case it is %s", rt.Pattern, t.rival(rt.Pattern))
			continue
		}
		rt.alone = http.NewServeMux()
		register(rt.alone, folded, rt)
		t.list = append(t.list, rt)
	}
	return t, problems
}

// rival names the earlier route that a pattern can't be beside.
func (t *table) rival(pattern string) string {
	for _, other := range t.list {
		mux := http.NewServeMux()
		if register(mux, foldPattern(other.Pattern), other) && !register(mux, foldPattern(pattern), other) {
			return fmt.Sprintf("the earlier %q", other.Pattern)
		}
	}
	return "an earlier one"
}

// register reports whether a pattern fits a mux: it panics if it doesn't.
func register(mux *http.ServeMux, pattern string, rt *route) (ok bool) {
	defer func() { ok = recover() == nil }()
	mux.Handle(pattern, rt)
	return true
}

func foldPattern(pattern string) string {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		return mapSegments(pattern, func(s string) string { return s }, foldLiteral)
	}
	return method + " " + mapSegments(path, func(s string) string { return s }, foldLiteral)
}

// foldLiteral folds a pattern's segment, which may be encoded.
func foldLiteral(s string) string {
	decoded, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	if f := fold(decoded); f != decoded {
		return url.PathEscape(f)
	}
	return s
}

// fold brings text into one case, also what has no simple one.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// lookup returns the route of a mux for a decoded path that is canonical. What
// else a mux answers, such as redirects, is no route.
func lookup(mux *http.ServeMux, method, path string) *route {
	h, _ := mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: path}})
	rt, _ := h.(*route)
	return rt
}

// find returns the route of a request whose path is canonical, or why there is
// none.
func (t *table) find(method, path string) (*route, error) {
	found := lookup(t.exact, method, path)
	if found == nil {
		return nil, errors.New("no route names it")
	}
	if t.same {
		return found, nil
	}
	// What an upstream may take the request for that is not strict about its
	// own routes: another route, that is not just a wider one which holds the
	// request as well.
	folded := fold(path)
	bare := strings.TrimSuffix(folded, "/")
	var rival *route
	safe := func(path string) bool {
		rival = lookup(t.folded, method, path)
		return rival == nil || rival.demand == found.demand || path != folded && lookup(rival.alone, method, folded) != nil
	}
	slash := bare + "/"
	if bare != folded {
		slash = bare
	}
	dot := strings.LastIndexByte(bare, '.')
	suffix := dot > strings.LastIndexByte(bare, '/')+1
	if (t.lower && folded == path || safe(folded)) &&
		(slash == "" || safe(slash)) &&
		(!suffix || safe(bare[:dot])) {
		return found, nil
	}
	return nil, fmt.Errorf("it is the route %q, but an upstream that is not strict about case, a slash at the end or a suffix would take it for %q, which demands something else", found.Pattern, rival.Pattern)
}
