package redistest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage/redis/redistest"
)

func TestTLS(t *testing.T) {
	s := redistest.NewTLS(t, "--maxmemory", "3mb")
	if got := do(t, s.Server, "ACL", "WHOAMI"); got != s.User {
		t.Errorf("logged in as %q, %q expected", got, s.User)
	}
	if got := do(t, s.Server, "CONFIG", "GET", "maxmemory"); got != "maxmemory\n3145728" {
		t.Errorf("extra configuration: %q", got)
	}

	pem, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA's file")
	}
	client, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	// ask sends commands on one connection and returns all the answers.
	ask := func(config *tls.Config, commands ...string) (string, error) {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if config != nil {
			conn = tls.Client(conn, config)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, command := range commands {
			if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
				return "", err
			}
			buf := make([]byte, 1024)
			n, err := conn.Read(buf)
			if err != nil {
				return "", err
			}
			all.Write(buf[:n])
		}
		return all.String(), nil
	}
	good := &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{client}}
	login := "AUTH " + s.User + " " + s.Password

	if got, err := ask(good, login, "PING"); got != "+OK\r\n+PONG\r\n" {
		t.Errorf("with all that it takes: %q, %v", got, err)
	}
	if got, err := ask(good, "PING"); !strings.HasPrefix(got, "-NOAUTH") {
		t.Errorf("without a login: %q, %v", got, err)
	}
	if got, err := ask(good, "AUTH "+s.User+" wrong"); !strings.HasPrefix(got, "-WRONGPASS") {
		t.Errorf("with a wrong password: %q, %v", got, err)
	}
	if got, err := ask(&tls.Config{RootCAs: roots, ServerName: "localhost"}, login); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	if got, err := ask(&tls.Config{ServerName: "localhost", Certificates: good.Certificates}, login); err == nil {
		t.Errorf("the system trusts the server's certificate: %q", got)
	}
	if got, err := ask(nil, login); err == nil {
		t.Errorf("without TLS: %q", got)
	}

	do(t, s.Server, "SET", "key", "value")
	s.Kill()
	s.Start()
	do(t, s.Server, "PING")
}
