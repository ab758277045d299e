// Command example is the sample API. It is protected by package verify and
// needs nothing of the authorization server but its issuer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/example/notes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", "127.0.0.1:9001", "address to listen on")
	issuer := flag.String("issuer", "", "the authorization server's issuer")
	audience := flag.String("audience", "", "this API's identifier")
	origins := flag.String("origins", "", "web origins whose pages may call, with commas between")
	publicURL := flag.String("public-url", "", "how the public reaches this API, for DPoP; the audience's host if empty")
	requireDPoP := flag.Bool("require-dpop", false, "refuse tokens that are not bound to a key")
	resourceServer := flag.String("resource-server", "", "this API's identifier as a resource server, as solegate resource register printed it: accounts that misuse the API are reported with it")
	secretFile := flag.String("secret-file", "", "file with its secret")
	development := flag.Bool("development", false, "allow an http issuer on loopback")
	flag.Parse()

	config := verify.Config{
		Issuer: *issuer, Audience: *audience, Development: *development,
		PublicURL: *publicURL, RequireDPoP: *requireDPoP,
		Log: slog.Default(), Scopes: []string{"notes:read", "notes:write"},
	}
	if *origins != "" {
		config.Origins = strings.Split(*origins, ",")
	}
	if *resourceServer != "" {
		secret, err := os.ReadFile(*secretFile)
		if err != nil {
			return fmt.Errorf("can't read the secret of the resource server: %w; give its file with -secret-file", err)
		}
		config.Credential = &verify.Credential{ID: *resourceServer, Secret: strings.TrimSpace(string(secret))}
		config.Reports = &verify.Reports{}
	}
	v, err := verify.New(ctx, config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("can't listen on %s: %w; choose another address with -listen", *listen, err)
	}
	server := &http.Server{Handler: notes.Handler(v), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second, MaxHeaderBytes: 16 << 10}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("serving", "listen", listener.Addr().String(), "issuer", *issuer, "audience", *audience)
	select {
	case err = <-failed:
	case <-ctx.Done():
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(server.Shutdown(deadline), v.Close(deadline))
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
