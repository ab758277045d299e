package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Credentials are what a client needs where TLS and passwords are asked for.
type Credentials struct {
	// CA, Cert and Key are files in PEM: the authority that the servers'
	// certificates and the client's are from, and the client's.
	CA, Cert, Key string
	// User and Password are who may do everything. The user default is off.
	User, Password string
	// PasswordFile has the password in it. It is that of Sentinels, too.
	PasswordFile string

	config                *tls.Config // of the client
	serverCert, serverKey string      // of the servers
}

// query is what a store's URL needs of them.
func (c *Credentials) query() string {
	if c == nil {
		return ""
	}
	return "?ca=" + c.CA + "&certificate=" + c.Cert + "&key=" + c.Key + "&password_file=" + c.PasswordFile
}

func newCredentials(tb testing.TB) *Credentials {
	tb.Helper()
	ca := newAuthority(tb)
	c := &Credentials{CA: ca.file, User: "solegate", Password: rand.Text()}
	c.serverCert, c.serverKey = ca.issue(tb, "server", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	c.Cert, c.Key = ca.issue(tb, "client", x509.ExtKeyUsageClientAuth)
	c.PasswordFile = filepath.Join(filepath.Dir(ca.file), "password")
	if err := os.WriteFile(c.PasswordFile, []byte(c.Password+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	client, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	c.config = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12}
	return c
}

// secure has a server speak nothing but TLS, to those that follow it and that
// it follows, too, and returns the configuration for that. Without credentials
// nothing is changed.
func (s *Server) secure(c *Credentials) []string {
	if c == nil {
		return nil
	}
	s.tls, s.auth = c.config, []string{c.User, c.Password}
	return []string{
		"--port", "0",
		"--tls-port", s.port,
		"--tls-replication", "yes",
		"--user", "default", "off",
		"--user", c.User, "on", ">" + c.Password, "~*", "&*", "+@all",
		"--tls-cert-file", c.serverCert,
		"--tls-key-file", c.serverKey,
		"--tls-ca-cert-file", c.CA,
		"--tls-auth-clients", "yes",
	}
}

// TLS is a server that speaks nothing but TLS, asks for a client's certificate
// and lets only one user in.
type TLS struct {
	*Server
	*Credentials
}

// NewTLS starts such a server. Its certificate is for 127.0.0.1 and localhost.
// Extra is configuration, as for Single.
func NewTLS(tb testing.TB, extra ...string) *TLS {
	tb.Helper()
	s := &TLS{Server: newServer(tb), Credentials: newCredentials(tb)}
	s.configure(durable, s.secure(s.Credentials), extra)
	s.Start()
	return s
}

// authority issues certificates that are good for a day.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // in PEM, and the folder of all others
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{file: filepath.Join(tb.TempDir(), "ca.crt")}
	a.key = newKey(tb)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "redistest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	writePEM(tb, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate and its key, and returns their files.
func (a *authority) issue(tb testing.TB, name string, usage ...x509.ExtKeyUsage) (certFile, keyFile string) {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	key := newKey(tb)
	certDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    a.cert.NotBefore,
		NotAfter:     a.cert.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usage,
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	certFile = filepath.Join(filepath.Dir(a.file), name+".crt")
	keyFile = filepath.Join(filepath.Dir(a.file), name+".key")
	writePEM(tb, certFile, "CERTIFICATE", certDER)
	writePEM(tb, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func writePEM(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		tb.Fatal(err)
	}
}
