package guard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// sensible refuses a request that an upstream might read in another way than
// it was checked.
func sensible(r *http.Request) error {
	if err := sensibleMethod(r.Method); err != nil {
		return err
	}
	// The path as it was sent: RawPath is empty if that is its one default
	// encoding.
	sent := r.URL.RawPath
	if sent == "" {
		sent = r.URL.EscapedPath()
	}
	if r.URL.Opaque != "" {
		return errors.New("the request's target is no path")
	}
	return canonical(sent)
}

// sensibleMethod refuses methods that somebody could take for another one, as
// "delete", and those that are about the connection.
func sensibleMethod(method string) error {
	if method == http.MethodConnect || method == http.MethodTrace {
		return fmt.Errorf("the method %s is not for an API", method)
	}
	if method == "" || method[0] == '-' || strings.ContainsFunc(method, func(r rune) bool { return r != '-' && (r < 'A' || r > 'Z') }) {
		return fmt.Errorf("the method %.20q is not in capital letters", method)
	}
	return nil
}

// canonical refuses an encoded path that has a second spelling which some
// upstream takes for the same, or for another path: then the route that was
// checked might not be the one that is served. It returns why.
func canonical(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("the path does not begin with a slash")
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			if i+2 >= len(path) || !hex(path[i+1]) || !hex(path[i+2]) {
				return errors.New("the path has a % that encodes nothing")
			}
			b := unhex(path[i+1])<<4 | unhex(path[i+2])
			if b < 0x80 && (b < ' ' || b == 0x7f || unreserved(b) || strings.IndexByte(`/\%;?#`, b) >= 0) {
				// A slash, a dot or a % that is hidden from who looks before
				// decoding; and letters, which need no encoding.
				return fmt.Errorf("the path has %s, which has another spelling", path[i:i+3])
			}
			i += 2
		case c == ';':
			return errors.New("the path has a ; after which some upstreams stop reading")
		case !unreserved(c) && strings.IndexByte("/!$&'()*+,:=@", c) < 0:
			return fmt.Errorf("the path has %q, which must be encoded", c)
		}
	}
	decoded, err := url.PathUnescape(path)
	switch {
	case err != nil:
		return err
	case !utf8.ValidString(decoded):
		return errors.New("the path is no UTF-8")
	case strings.ContainsAny(decoded, lookalikes):
		return errors.New("the path has a character that normalises to a slash, a dot or the like")
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(decoded[1:], "/"), "/") {
		switch {
		case segment == "" && decoded != "/":
			return errors.New("the path has an empty segment")
		case strings.HasSuffix(segment, "."), strings.HasSuffix(segment, " "), strings.HasPrefix(segment, " "):
			// "." and ".." among them; the rest is what Windows takes away.
			return fmt.Errorf("the path has the segment %.40q", segment)
		}
	}
	return nil
}

// lookalikes become one of / \ . ; % ? # under Unicode's compatibility
// normalisation (NFKC).
const lookalikes = "\uFF0F\uFF3C\uFE68\uFF0E\uFE52\u2024\u2025\uFF1B\uFE54\uFF05\uFE6A\uFF1F\uFE56\uFF03\uFE5F"

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// maxTarget bounds a target that a proxy tells, in bytes.
const maxTarget = 8 << 10

// parseTarget reads a request's target in origin form (RFC 9112 §3.2.1), as a
// proxy tells it: a canonical path, and a query.
func parseTarget(target string) (*url.URL, error) {
	if len(target) > maxTarget {
		return nil, fmt.Errorf("the target has %d bytes, at most %d are expected", len(target), maxTarget)
	}
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		return nil, errors.New("the target has characters that no target has")
	}
	path, _, _ := strings.Cut(target, "?")
	if err := canonical(path); err != nil {
		return nil, err
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	return u, nil
}
