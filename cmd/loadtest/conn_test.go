package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConnSpeaksToNetHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /small", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "small "+r.Header.Get("X-Extra")) })
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.PostFormValue("a")+r.PostFormValue("b")+r.Header.Get("DPoP"))
	})
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://spa.example.com/callback?code=x")
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.HandleFunc("GET /nothing", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") })
	server := httptest.NewServer(mux)
	defer server.Close()
	host := server.Listener.Addr().String()

	c := newConn(host)
	defer c.close()
	form := newPost(host, "/form", "")
	for _, test := range []struct {
		name    string
		request func() []byte
		want    response
	}{
		{"a get with a field", func() []byte { return get(host, "/small", "X-Extra: 1\r\n") }, response{status: 200, body: []byte("small 1")}},
		{"a form with a proof", func() []byte { return form.with("a.proof", "a=one", "&b=two") }, response{status: 200, body: []byte("onetwoa.proof")}},
		{"another form, shorter", func() []byte { return form.with("", "a=1") }, response{status: 200, body: []byte("1")}},
		{"a redirect", func() []byte { return get(host, "/redirect", "") }, response{status: 303, location: "https://spa.example.com/callback?code=x"}},
		{"no content", func() []byte { return get(host, "/nothing", "") }, response{status: 204}},
		{"an error", func() []byte { return get(host, "/absent", "") }, response{status: 404, body: []byte("404 page not found\n")}},
	} {
		got, err := c.do(test.request())
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(response{}), cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.name, diff)
		}
	}
}

func TestConnConnectsAnewAfterAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/die" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "alive")
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	c := newConn(host)
	defer c.close()
	if _, err := c.do(get(host, "/die", "")); err == nil {
		t.Fatal("a cut connection was no error")
	}
	if r, err := c.do(get(host, "/", "")); err != nil || string(r.body) != "alive" {
		t.Fatalf("after a cut connection: %q, %v", r.body, err)
	}
}

func TestReadResponseRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for name, answer := range map[string]string{
		"another version":     "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"no number":           "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
		"an interim answer":   "HTTP/1.1 100 Continue\r\n\r\n",
		"a short status line": "HTTP/1.1\r\n\r\n",
		"no length":           "HTTP/1.1 200 OK\r\n\r\n",
		"chunks":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a length below zero": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"an absurd length":    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"no field":            "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
	} {
		if r, err := reader(answer).readResponse(); !errors.Is(err, errAnswer) {
			t.Errorf("%s: %+v, %v: errAnswer expected", name, r, err)
		}
	}
	if _, err := reader("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").readResponse(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body cut short: %v", err)
	}
}

func reader(answer string) *conn {
	return &conn{read: bufio.NewReaderSize(strings.NewReader(answer), 4096)}
}

func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLocation: x\r\n\r\nok")
	f.Add("HTTP/1.1 204 No Content\r\n\r\n")
	f.Fuzz(func(t *testing.T, answer string) {
		r, err := reader(answer).readResponse()
		if err == nil && (r.status < 200 || r.status > 599 || len(r.body) > len(answer)) {
			t.Errorf("%+v of %q", r, answer)
		}
	})
}

func TestMember(t *testing.T) {
	body := []byte(`{"access_token":"a.b.c","scope":"","refresh_token":"r`)
	for name, want := range map[string]string{"access_token": "a.b.c", "scope": "", "refresh_token": "", "token": "", "absent": ""} {
		if got := member(body, name); got != want {
			t.Errorf("%s is %q, %q expected", name, got, want)
		}
	}
}
