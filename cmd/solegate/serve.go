package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func (a *app) serve() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the authorization server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			if c.checkServer(); len(c.mistakes) > 0 {
				return c.err()
			}
			return a.run(cmd.Context(), c)
		},
	}
	settingFlags(cmd, func(l leaf) bool { return !l.guardOnly() })
	return cmd
}

// Bounds of a connection: whoever sends slowly or much gets neither time nor
// memory.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	shutdownTimeout   = 15 * time.Second
)

// newWeb returns a server within these bounds.
func newWeb(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// prepare sets the runtime as configured and returns the log of what serves.
func (a *app) prepare(c *configuration) *slog.Logger {
	level, _ := c.level()
	log := newLog(a.stderr, c.Log.Format, level)
	c.tune()
	if c.Development {
		log.Warn("DEVELOPMENT MODE: http on loopback is allowed. Never run it like this where others can connect.")
	}
	return log
}

func (a *app) run(ctx context.Context, c *configuration) error {
	log := a.prepare(c)
	// The port first: a second server by mistake must not touch the store.
	listener, err := listen(c.Listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	store, err := open(ctx, c.Store, c.Development, log)
	if err != nil {
		return err
	}
	defer store.Close()
	ring, err := c.ring(ctx, store, log)
	if err != nil {
		return err
	}
	auditLog := audit.New(audit.Config{Log: log, Store: store, Keep: c.Audit.Keep, Secret: ring.Secret})
	if err := a.declare(ctx, c, store, auditLog, log); err != nil {
		return err
	}
	config := c.authz()
	config.Store, config.Ring, config.Log, config.Audit = store, ring, log, auditLog
	handlerOf, err := authz.New(ctx, config)
	if err != nil {
		return err
	}

	var local *http.Server
	if c.Admin.Socket != "" {
		s, err := listenSocket(c.Admin.Socket)
		if err != nil {
			return err
		}
		defer s.remove()
		local = s.server(handlerOf, log)
		local.RegisterOnShutdown(handlerOf.EndStreams)
		defer local.Close()
		go local.Serve(s)
		log.Info("serving the operator's API", "socket", c.Admin.Socket)
	}
	web := newWeb(handlerOf, log)
	web.RegisterOnShutdown(handlerOf.EndStreams)
	if web.TLSConfig, err = c.tls(log); err != nil {
		return err
	}
	secure := web.TLSConfig != nil

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { handlerOf.Run(background) })
	failed := make(chan error, 1)
	go func() {
		if secure {
			failed <- web.ServeTLS(listener, "", "")
		} else {
			failed <- web.Serve(listener)
		}
	}()
	log.Info("serving", "issuer", c.Issuer, "listen", listener.Addr().String(), "tls", secure, "store", shown(c.Store))

	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping: requests under way are finished first")
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		// At once: a long act of an operator's takes no time from the others.
		var ends sync.WaitGroup
		if local != nil {
			ends.Go(func() { local.Shutdown(deadline) })
		}
		err = web.Shutdown(deadline)
		ends.Wait()
		cancel()
	}
	stop()
	work.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// listen listens on an address, which flag can change.
func listen(address, flag string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the address %s is taken by another program: end it, or choose another with %s", address, flag)
	} else if err != nil {
		return nil, fmt.Errorf("can't listen on %s: %w", address, err)
	}
	return listener, nil
}

// tls is how TLS is spoken; nil without a certificate.
func (c *configuration) tls(log *slog.Logger) (*tls.Config, error) {
	if c.TLS.Certificate == "" {
		return nil, nil
	}
	certificate, err := loadCertificate(c.TLS.Certificate, c.TLS.Key, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites,
		GetCertificate: certificate.get, NextProtos: []string{"h2", "http/1.1"},
	}, nil
}

// certificate is a TLS certificate that is read again when its files change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[loaded]
	reload            sync.Mutex
}

type loaded struct {
	certificate *tls.Certificate
	stamp       string // of the files it was read from
	refused     string // stamp of the files that could not be used since, and that was logged
	looked      time.Time
}

func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	// The stamp first: if the files change while they are read, it is that of
	// the old ones, and they are read again.
	stamp := c.stamp()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.current.Store(&loaded{certificate: &pair, stamp: stamp, looked: time.Now()})
	return c, nil
}

// look is how often the files are looked at, at most.
const look = time.Second

func (c *certificate) stamp() string {
	var stamp string
	for _, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp += fmt.Sprint(info.ModTime().UnixNano(), info.Size())
		}
		stamp += ";"
	}
	return stamp
}

// get returns the certificate for a handshake. While the files are being
// replaced, or don't fit each other, the one that was good serves on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := c.current.Load()
	if time.Since(now.looked) < look || !c.reload.TryLock() {
		return now.certificate, nil
	}
	defer c.reload.Unlock()
	next := *now
	next.looked = time.Now()
	if stamp := c.stamp(); stamp != now.stamp {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		switch {
		case err == nil:
			next.certificate, next.stamp, next.refused = &pair, stamp, ""
			c.log.Info("TLS certificate renewed", "certificate", c.certFile, "expires", pair.Leaf.NotAfter)
		case stamp != now.refused: // once, not at every look
			next.refused = stamp
			c.log.Error("the changed TLS certificate can't be used, and the one before serves on until it expires: put a certificate and its own key there, readable for the server",
				"certificate", c.certFile, "key", c.keyFile, "error", err, "expires", now.certificate.Leaf.NotAfter)
		}
	}
	c.current.Store(&next)
	return next.certificate, nil
}

// declare writes the clients of the configuration file to the store: the file
// wins. A client that was declared once and is gone from the file is disabled,
// and then the commands may change it.
func (a *app) declare(ctx context.Context, c *configuration, store storage.Store, auditLog *audit.Log, log *slog.Logger) error {
	revoker := revocation.New(revocation.Config{Store: store, Audit: auditLog, TokenLife: c.Lifetimes.AccessToken}) // it ends clients, not sessions
	ctx = audit.WithOperator(ctx, "configuration file")
	declared := map[clients.ID]bool{}
	for _, settings := range c.Clients {
		want, warnings, err := settings.client(c.Development)
		if err != nil {
			return fmt.Errorf("client %s of the configuration file: %w", settings.ID, err)
		}
		declared[want.ID] = true
		for _, w := range warnings {
			log.Warn("declared client", "client", want.ID, "warning", w)
		}
		before, err := revoker.DeclareClient(ctx, want)
		if err != nil {
			return fmt.Errorf("client %s of the configuration file can't be written to the store: %w; start the server again", want.ID, err)
		}
		if before.ID != "" && !before.Declared {
			log.Warn("the configuration file takes over a client that it did not declare before", "client", want.ID)
		}
	}
	all, err := collect(func(p storage.Page) ([]clients.Client, error) { return store.ListClients(ctx, p) }, func(c clients.Client) string { return string(c.ID) })
	if err != nil {
		return err
	}
	for _, have := range all {
		if !have.Declared || declared[have.ID] {
			continue
		}
		done, err := revoker.UndeclareClient(ctx, have.ID)
		if err != nil {
			return fmt.Errorf("client %s is no longer in the configuration file and can't be disabled: %w; start the server again", have.ID, err)
		}
		if done {
			log.Warn("a client is no longer in the configuration file and is disabled; remove it with: solegate client remove "+string(have.ID), "client", have.ID)
		}
	}
	return nil
}

// cipherSuites are those that BCP 195 (RFC 9325 §4.2) recommends for TLS 1.2,
// and FAPI 2.0 allows no others. Those of TLS 1.3 are all good.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}
