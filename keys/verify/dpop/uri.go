package dpop

import (
	"errors"
	"fmt"
	"strings"
)

// normalise writes an http or https address in the one way that all ways of
// writing it are compared in: the syntax- and scheme-based normalisation of
// RFC 3986 §6.2.2 and §6.2.3. Scheme and host are in lower case, the scheme's
// own port is left out, what needs no percent-encoding has none and what has it
// is in upper case, dot segments are resolved, an empty path is "/". Query and
// fragment are dropped (RFC 9449 §4.3). Printable characters that a URI has no
// place for, which browsers send as they are, get their percent-encoding.
//
// It is not for anything but comparing: a path is compared with its case and
// its double slashes.
func normalise(address string) (string, error) {
	for i := range len(address) {
		if c := address[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return "", errors.New("a character that no address has")
		}
	}
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		address = address[:i]
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "https" && scheme != "http" {
		return "", errors.New("an https address is expected")
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	host, port, err := split(authority)
	if err != nil {
		return "", err
	}
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		port = ""
	} else {
		port = ":" + port
	}
	if path, err = normalisePath(path); err != nil {
		return "", err
	}
	return scheme + "://" + strings.ToLower(host) + port + path, nil
}

// split takes host and port apart. No user name and no percent-encoding: there
// is no use for them here, and readers differ.
func split(authority string) (host, port string, err error) {
	host = authority
	end := strings.LastIndexByte(authority, ']') // an IPv6 address has colons
	if i := strings.LastIndexByte(authority, ':'); i > end {
		host, port = authority[:i], authority[i+1:]
	}
	if host == "" || strings.ContainsAny(host, "@%\"<>^`{|}") || strings.Trim(port, "0123456789") != "" {
		return "", "", errors.New("a host, and a port if there must be one, are expected")
	}
	if end >= 0 && (host[0] != '[' || end != len(host)-1) || end < 0 && strings.ContainsAny(host, ":[") {
		return "", "", errors.New("an IPv6 address in brackets is expected")
	}
	return host, port, nil
}

const hexDigits = "0123456789ABCDEF"

// normalisePath normalises percent-encoding and dot segments.
func normalisePath(path string) (string, error) {
	if path == "" {
		return "/", nil
	}
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			if i+2 >= len(path) || unhex(path[i+1]) < 0 || unhex(path[i+2]) < 0 {
				return "", fmt.Errorf("%.5q is no percent-encoding", path[i:])
			}
			c = byte(unhex(path[i+1])<<4 | unhex(path[i+2]))
			i += 2
			if unreserved(c) {
				b.WriteByte(c)
			} else {
				b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
			}
		case unreserved(c) || strings.IndexByte("/!$&'()*+,;=:@", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	if path = b.String(); !strings.Contains(path, "/.") {
		return path, nil
	}
	// RFC 3986 §5.2.4. The path begins with a slash.
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/"), nil
}

// unreserved are the characters of RFC 3986 §2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	}
	return -1
}
