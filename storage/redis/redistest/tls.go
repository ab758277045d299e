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

// TLS is a server that speaks nothing but TLS, asks for a client's certificate
// and lets only one user in.
type TLS struct {
	*Server
	// CA, Cert and Key are files in PEM: the authority that the server's
	// certificate and the client's are from, and the client's.
	CA, Cert, Key string
	// User and Password are who may do everything. The user default is off.
	User, Password string
}

// NewTLS starts such a server. Its certificate is for 127.0.0.1 and localhost.
// Extra is configuration, as for Single.
func NewTLS(tb testing.TB, extra ...string) *TLS {
	tb.Helper()
	ca := newAuthority(tb)
	s := &TLS{Server: newServer(tb), CA: ca.file, User: "solegate", Password: rand.Text()}
	serverCert, serverKey := ca.issue(tb, "server", x509.ExtKeyUsageServerAuth)
	s.Cert, s.Key = ca.issue(tb, "client", x509.ExtKeyUsageClientAuth)
	s.configure(durable, []string{
		"--port", "0",
		"--tls-port", s.port,
		"--user", "default", "off",
		"--user", s.User, "on", ">" + s.Password, "~*", "&*", "+@all",
		"--tls-cert-file", serverCert,
		"--tls-key-file", serverKey,
		"--tls-ca-cert-file", s.CA,
		"--tls-auth-clients", "yes",
	}, extra)
	client, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	s.tls = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12}
	s.auth = []string{s.User, s.Password}
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
func (a *authority) issue(tb testing.TB, name string, usage x509.ExtKeyUsage) (certFile, keyFile string) {
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
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
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
