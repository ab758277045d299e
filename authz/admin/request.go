package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/solegate/solegate/storage"
)

// Bounds of what a request may hold, in bytes.
const (
	maxBody      = 4 << 10
	maxReason    = 500
	maxRunes     = 200 // of the reason
	maxID        = 200 // of a user, a session, a client or a key
	maxParameter = 512
)

// call is a request of an operator that was understood: it has the parameters
// and members that its route takes, each once, and no others.
type call struct {
	r     *http.Request
	w     http.ResponseWriter
	route *route
	query url.Values
	body  map[string]string
	ids   map[string]string
}

func (a *API) call(w http.ResponseWriter, r *http.Request) (*call, error) {
	matched, err := a.match(w, r)
	if err != nil {
		return nil, err
	}
	c := &call{r: r, w: w, route: matched, ids: map[string]string{}}
	for _, name := range []string{"user", "session", "client", "key"} {
		id := r.PathValue(name)
		if id != "" && !isID(id) { // not worth asking the store
			return nil, refusef(http.StatusNotFound, "There is none by that identifier.", "%s of %d bytes is no identifier", name, len(id))
		}
		c.ids[name] = id
	}
	if c.query, err = parseQuery(r.URL.RawQuery, matched.query); err != nil {
		return nil, refusef(http.StatusBadRequest, "A parameter of the query is unknown, malformed, or there twice.", "query: %w", err)
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if c.body, err = parseBody(body, matched.body); err != nil {
		return nil, refusef(http.StatusBadRequest, "The body is not a JSON object of the members that there are, each a string.", "body: %w", err)
	}
	return c, nil
}

func (c *call) id(name string) string { return c.ids[name] }

// isID reports whether s could be an identifier of anything: all are made of
// letters, digits, dots, hyphens and underscores.
func isID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		if b := s[i]; (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '-' && b != '_' && b != '.' {
			return false
		}
	}
	return true
}

// parseQuery returns the parameters, which must be of the known ones.
func parseQuery(raw string, known []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("malformed")
	}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("unknown parameter %.40q", name)
		case len(values) > 1:
			return nil, fmt.Errorf("%s is there %d times", name, len(values))
		case len(values[0]) > maxParameter || !utf8.ValidString(values[0]) || strings.ContainsRune(values[0], 0):
			return nil, fmt.Errorf("%s has %d bytes, a NUL, or is not UTF-8", name, len(values[0]))
		}
	}
	return q, nil
}

// readBody returns the body, which is JSON or empty. A form of another site's
// page, which a browser sends without asking, is neither.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, refusef(http.StatusRequestEntityTooLarge, "The body is too large.", "body of more than %d bytes", maxBody)
		}
		return nil, refusef(http.StatusBadRequest, "The body could not be read.", "body: %w", err)
	}
	if len(body) == 0 {
		return nil, nil
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" || len(r.Header["Content-Type"]) != 1 {
		return nil, refusef(http.StatusUnsupportedMediaType, "A body of type application/json is expected.", "body of another type")
	}
	return body, nil
}

// parseBody returns the members of a JSON object. Each is one of the known ones,
// there once, and a string. Two readers of the same text never see different
// members: names are compared exactly.
func parseBody(body []byte, known []string) (map[string]string, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no object")
	}
	members := map[string]string{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("malformed")
		}
		value, err := d.Token()
		if err != nil {
			return nil, errors.New("malformed")
		}
		key, _ := name.(string)
		text, ok := value.(string)
		switch _, twice := members[key]; {
		case !slices.Contains(known, key):
			return nil, fmt.Errorf("unknown member %.40q", key)
		case twice:
			return nil, fmt.Errorf("%s is there twice", key)
		case !ok:
			return nil, fmt.Errorf("%s is no string", key)
		}
		members[key] = text
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("malformed")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return members, nil
}

// reason is why it is done: for operators, never for the feed or the person.
func (c *call) reason(preset string) (string, error) {
	text, ok := c.body["reason"]
	if !ok {
		return preset, nil
	}
	if strings.TrimSpace(text) == "" || len(text) > maxReason || utf8.RuneCountInString(text) > maxRunes || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
		return "", refusef(http.StatusBadRequest, "The reason is empty, too long or has control characters.", "reason of %d bytes", len(text))
	}
	return text, nil
}

// maxFor is the longest time for which something may be said to last.
const maxFor = 100 * 365 * 24 * time.Hour

// until is when it ends: at a time, or after a length of it; zero if neither
// is said.
func (c *call) until(now time.Time) (time.Time, error) {
	until, at := c.body["until"]
	length, after := c.body["for"]
	var t time.Time
	var err error
	switch {
	case !at && !after:
		return time.Time{}, nil
	case at && after:
		return t, refusef(http.StatusBadRequest, "There are both until and for.", "until and for")
	case at:
		t, err = time.Parse(time.RFC3339, until)
	default:
		var d time.Duration
		d, err = time.ParseDuration(length)
		t = now.Add(min(d, 2*maxFor))
	}
	if err != nil || !t.After(now) || t.Sub(now) > maxFor {
		return t, refusef(http.StatusBadRequest, "A time to come is expected: until as RFC 3339, or for such as 24h.", "until or for is malformed, past or too far away")
	}
	return t.UTC(), nil
}

// The most records of a listing that are answered, and how many if nothing is
// asked.
const (
	maxLimit    = 1000
	presetLimit = 100
)

// flag is a parameter that is true or false, which it is if it is missing.
func (c *call) flag(name string) (bool, error) {
	switch c.query.Get(name) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, refusef(http.StatusBadRequest, "A parameter is neither true nor false.", "%s", name)
}

// page is the part of a listing that is asked for.
func (c *call) page() (storage.Page, error) {
	p := storage.Page{After: c.query.Get("after"), Limit: presetLimit}
	if c.query.Has("limit") {
		n, err := strconv.ParseUint(c.query.Get("limit"), 10, 16)
		if err != nil || n < 1 || n > maxLimit {
			return p, refusef(http.StatusBadRequest, "The limit is not between 1 and 1000.", "limit")
		}
		p.Limit = int(n)
	}
	return p, nil
}

// listed makes a part of a listing of the records of page p.
func listed[R, T any](records []R, p storage.Page, key func(R) string, show func(R) (T, bool)) list[T] {
	l := list[T]{Items: []T{}}
	for _, r := range records {
		if shown, ok := show(r); ok {
			l.Items = append(l.Items, shown)
		}
	}
	if len(records) == p.Limit {
		l.Next = key(records[len(records)-1])
	}
	return l
}
