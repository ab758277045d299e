package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a certificate for loopback that signed itself.
func writeCertificate(t *testing.T, folder string, serial int64) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// File systems count in milliseconds, and tests are quicker.
		written := time.Now().Add(time.Duration(serial) * time.Second)
		if err := os.Chtimes(name, written, written); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// served returns the serial number of the certificate that a handshake gets, a
// second after the files were looked at.
func (c *certificate) served(t *testing.T) int64 {
	t.Helper()
	now := *c.current.Load()
	now.looked = time.Time{}
	c.current.Store(&now)
	got, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return got.Leaf.SerialNumber.Int64()
}

func TestCertificateIsReadAgain(t *testing.T) {
	folder := t.TempDir()
	var log bytes.Buffer
	certFile, keyFile := writeCertificate(t, folder, 1)
	c, err := loadCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	// The lines logged since the last time.
	logged := func(want ...string) {
		t.Helper()
		lines := strings.SplitAfter(log.String(), "\n")
		lines = lines[:len(lines)-1]
		ok := len(lines) == len(want)
		for i := 0; ok && i < len(lines); i++ {
			ok = strings.Contains(lines[i], want[i])
		}
		if !ok {
			t.Errorf("logged:\n%swant lines with %q", log.String(), want)
		}
		log.Reset()
	}
	if c.served(t) != 1 {
		t.Error("not the first certificate")
	}
	logged()
	writeCertificate(t, folder, 2)
	if c.served(t) != 2 {
		t.Error("the new certificate is not served")
	}
	logged("TLS certificate renewed")

	// What can't be used: half a key, another pair's key, a file that is gone.
	// Each is said once, however many handshakes look at it.
	elsewhere := t.TempDir()
	_, otherKey := writeCertificate(t, elsewhere, 9)
	other, err := os.ReadFile(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct {
		change func() error
		want   string
	}{
		{func() error { return os.WriteFile(keyFile, []byte("half a k"), 0o600) }, "failed to find any PEM data in key input"},
		{func() error { return os.WriteFile(keyFile, other, 0o600) }, "private key does not match public key"},
		{func() error { return os.Remove(certFile) }, "no such file"},
	} {
		if err := broken.change(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if c.served(t) != 2 {
				t.Errorf("%s: the good certificate is not served", broken.want)
			}
		}
		logged(broken.want)
	}
	writeCertificate(t, folder, 3)
	for range 2 {
		if c.served(t) != 3 {
			t.Error("the third certificate is not served")
		}
	}
	logged("TLS certificate renewed")
	if _, err := loadCertificate(certFile, filepath.Join(folder, "missing"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing key: %v", err)
	}
}
