//go:build unix

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCertificateRenewedWhileItIsRead: a server starts between the read of the
// old pair and the arrival of the new one, and does not keep the old one.
func TestCertificateRenewedWhileItIsRead(t *testing.T) {
	folder := t.TempDir()
	certFile, keyFile := writeCertificate(t, folder, 1)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	// The key comes by a pipe, so that the reader waits in its middle.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(pipe, keyFile); err != nil {
		t.Fatal(err)
	}
	type result struct {
		*certificate
		error
	}
	done := make(chan result, 1)
	go func() {
		c, err := loadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
		done <- result{c, err}
	}()
	w, err := os.OpenFile(keyFile, os.O_WRONLY, 0) // returns when the reader is there
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, folder, 2)
	if _, err := w.Write(key); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	loaded := <-done
	if loaded.error != nil {
		t.Fatal(loaded.error)
	}
	if got := loaded.served(t); got != 2 {
		t.Errorf("certificate %d is served, want 2, the renewed one", got)
	}
}
