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

// Secure is a server that speaks TLS only, asks for a client's certificate,
// and for a user and password.
type Secure struct {
	*Server
	CA, Certificate, Key string // files
	User, Password       string
}

// NewSecure starts one.
func NewSecure(tb testing.TB) *Secure {
	tb.Helper()
	s := prepare(tb)
	x := &Secure{Server: s, User: "solegate", Password: "p:a/s%s@w"}
	x.CA, x.Certificate, x.Key = filepath.Join(s.Dir, "ca.pem"), filepath.Join(s.Dir, "cert.pem"), filepath.Join(s.Dir, "key.pem")

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(tb, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(tb, err)
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(tb, x.CA, cert)
	write(tb, x.Certificate, cert)
	write(tb, x.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))

	port := s.args[1]
	s.args = append(s.args, "--port", "0", "--tls-port", port, "--tls-cert-file", x.Certificate, "--tls-key-file", x.Key, "--tls-ca-cert-file", x.CA,
		"--appendonly", "yes", "--user", x.User, "on", ">"+x.Password, "~*", "&*", "+@all", "--user", "default", "off")
	pair, err := tls.LoadX509KeyPair(x.Certificate, x.Key)
	check(tb, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	s.options.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}
	s.options.Username, s.options.Password = x.User, x.Password
	s.Start()
	return x
}

func write(tb testing.TB, file, text string) {
	tb.Helper()
	check(tb, os.WriteFile(file, []byte(text), 0o600))
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
