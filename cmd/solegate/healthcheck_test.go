package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// solegate runs the command in this process, with that environment only.
func solegate(t *testing.T, environ []string, args ...string) (stdout string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &log, environ: environ}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&log)
	err = root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestHealthcheckAsksWhereServeListens: in each way of writing all addresses,
// with TLS and without, by a certificate that names none of them.
func TestHealthcheckAsksWhereServeListens(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	secure := start(t, func(c *configuration) { c.TLS.Certificate, c.TLS.Key = certFile, keyFile })
	plain := start(t, func(*configuration) {})
	for _, host := range []string{"127.0.0.1", "", "0.0.0.0", "[::]"} {
		for address, environ := range map[string][]string{plain: nil, secure: {"SOLEGATE_TLS_CERTIFICATE=" + certFile}} {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			listen := host + ":" + port
			if out, err := solegate(t, append(environ, "SOLEGATE_LISTEN="+listen), "healthcheck"); err != nil || out != "ok\n" {
				t.Errorf("listen %s, TLS %t: %q, %v", listen, environ != nil, out, err)
			}
		}
	}
	if _, err := solegate(t, nil, "healthcheck", "--listen", secure, "--tls-certificate", certFile); err != nil {
		t.Errorf("by flags: %v", err)
	}
	// A URL may be far away: there the name counts.
	if _, err := solegate(t, nil, "healthcheck", "https://"+secure); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate at a URL: %v, want it refused", err)
	}
	// One that listens on [::] in truth is reached at the address asked, too.
	all, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skipf("no [::] here: %v", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go server.Serve(all)
	defer server.Close()
	if _, err := solegate(t, nil, "healthcheck", "--listen", all.Addr().String()); err != nil {
		t.Errorf("listen %s: %v", all.Addr(), err)
	}
}

func TestHealthcheckSaysWhatCame(t *testing.T) {
	for status, elsewhere := range map[int]string{http.StatusServiceUnavailable: "", http.StatusFound: "/alive"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/livez" {
				w.Header().Set("Location", elsewhere)
				w.WriteHeader(status)
			}
		}))
		_, err := solegate(t, nil, "healthcheck", "--listen", server.Listener.Addr().String())
		if err == nil || !strings.Contains(err.Error(), "200 expected") {
			t.Errorf("a server that answers %d: %v, want it told", status, err)
		}
		server.Close()
	}
}

// TestContainerHealthcheck runs what the Dockerfile says, in a container that
// was given a certificate.
func TestContainerHealthcheck(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^HEALTHCHECK .*CMD (\[.*\])$`).FindSubmatch(text)
	var command []string
	if match == nil || json.Unmarshal(match[1], &command) != nil || len(command) < 2 {
		t.Fatalf("the Dockerfile has no HEALTHCHECK with a command as a list:\n%s", text)
	}
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	_, port, err := net.SplitHostPort(start(t, func(c *configuration) { c.TLS.Certificate, c.TLS.Key = certFile, keyFile }))
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"SOLEGATE_LISTEN=:" + port, "SOLEGATE_TLS_CERTIFICATE=" + certFile, "SOLEGATE_TLS_KEY=" + keyFile}
	if _, err := solegate(t, environ, command[1:]...); err != nil {
		t.Errorf("%q: %v", command, err)
	}
}
