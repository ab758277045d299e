package dpop

import (
	"net/url"
	"testing"
)

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"https://api.example.com/notes":          "https://api.example.com/notes",
		"HTTPS://API.Example.COM/Notes":          "https://api.example.com/Notes",
		"https://api.example.com":                "https://api.example.com/",
		"https://api.example.com?a=b":            "https://api.example.com/",
		"https://api.example.com/?a=b#c":         "https://api.example.com/",
		"https://api.example.com/#/../x?":        "https://api.example.com/",
		"https://api.example.com:443/":           "https://api.example.com/",
		"https://api.example.com:/":              "https://api.example.com/",
		"http://api.example.com:80/":             "http://api.example.com/",
		"http://api.example.com:443/":            "http://api.example.com:443/",
		"https://api.example.com:8443/":          "https://api.example.com:8443/",
		"https://[2001:DB8::1]:443/":             "https://[2001:db8::1]/",
		"https://[::1]:8443":                     "https://[::1]:8443/",
		"https://a/%7euser/%2f%c3%a9":            "https://a/~user/%2F%C3%A9",
		"https://a/b/./c/../d":                   "https://a/b/d",
		"https://a/b/..":                         "https://a/",
		"https://a/b/.":                          "https://a/b/",
		"https://a/../../b":                      "https://a/b",
		"https://a/%2e%2E/b":                     "https://a/b",
		"https://a//b/":                          "https://a//b/",
		"https://a/...":                          "https://a/...",
		"https://a/b;c=1,2/(d)!$&'*+:@=":         "https://a/b;c=1,2/(d)!$&'*+:@=",
		`https://a/b|c[d]"`:                      "https://a/b%7Cc%5Bd%5D%22",
		"https://a/b%7cc%5bd%5D%22":              "https://a/b%7Cc%5Bd%5D%22",
		"https://xn--bcher-kva.example/%25%2541": "https://xn--bcher-kva.example/%25%2541",
	} {
		if got, err := normalise(in); err != nil || got != want {
			t.Errorf("%q: got %q %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "/notes", "//api.example.com/", "https:/api.example.com", "https:///notes", "https://:443/",
		"ftp://api.example.com/", "javascript://a/", "https://a b/", "https://a/b c", "https://a/b\n", "https://a/\x00",
		"https://bücher.example/", "https://a/é", `https://a\b/`, "https://a:b@c/", "https://a@b/", "https://a:8o/", "https://a:-1/",
		"https://a:1:2/", "https://[::1/", "https://::1]/", "https://[::1]x/", "https://x[::1]/", "https://%61/", "https://a/%", "https://a/%4", "https://a/%zz",
	} {
		if got, err := normalise(bad); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

// FuzzNormalise holds normalise to be done once, and to keep to what net/url
// reads.
func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"https://API.example.com:443/a/%2e%2e/b?c#d", "http://[::1]:80/..//./x|y", "https://a/%7e%2F"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := normalise(s)
		if err != nil {
			return
		}
		if twice, err := normalise(once); err != nil || twice != once {
			t.Fatalf("%q: %q, then %q %v", s, once, twice, err)
		}
		if u, err := url.Parse(once); err == nil && (u.Scheme+"://"+u.Host+u.EscapedPath() != once || u.User != nil) {
			t.Fatalf("%q: %q is read as %q", s, once, u)
		}
	})
}
