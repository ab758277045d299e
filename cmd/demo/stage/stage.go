// Package stage sets up everything that one needs to watch a login and a copy
// that fails at it: the authorization server, the sample API, the sample SPA,
// and the same SPA files at another origin. All of it runs in this process, on
// loopback, each on a port of its own.
package stage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// Config says where things are.
type Config struct {
	// Folder keeps the store and the master key. It must exist.
	Folder string
	// Files is the folder with the built SPA.
	Files string
	// Ports are those of the authorization server, the API, the SPA and the
	// copy; 0 means any free one.
	Ports [4]int
	// Password says how passwords are hashed; tests make it cheap.
	Password password.Params
	// Consent registers the SPA as a client that people are asked about.
	Consent bool
	// Log takes what the authorization server and the API log; nil discards
	// it.
	Log *slog.Logger
}

// The demo user.
const (
	User     = "alice"
	Password = "seven green otters sing at dusk"
)

// Stage is everything, running.
type Stage struct {
	AuthURL, APIURL, SPAURL, CopyURL string

	Client clients.Client
	Server *authz.Server
	Store  storage.Store

	verifier *verify.Verifier // the API's
	stop     context.CancelFunc
	servers  []*http.Server
	work     sync.WaitGroup
}

// Start starts everything. The error is one line with what to do.
func Start(ctx context.Context, c Config) (*Stage, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(filepath.Join(c.Files, "index.html")); err != nil {
		return nil, fmt.Errorf("the sample app is not built in %s: run npm ci && npm run build in clients/spa", c.Files)
	}
	s := &Stage{}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if err := s.start(ctx, run, c); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) start(ctx, run context.Context, c Config) error {
	var listeners [4]net.Listener
	defer func() {
		for _, l := range listeners {
			if l != nil {
				l.Close() // those that no server took over
			}
		}
	}()
	for i, port := range c.Ports {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%d is not a port: choose -port from 1 to 65532, four ports from there are used", port)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("port %d is taken by another program: end it, or choose other ports with -port", port)
		} else if err != nil {
			return err
		}
		listeners[i] = l
	}
	for i, u := range []*string{&s.AuthURL, &s.APIURL, &s.SPAURL, &s.CopyURL} {
		*u = "http://" + listeners[i].Addr().String()
	}

	ring, err := s.open(ctx, c)
	if err != nil {
		return err
	}
	if err := s.register(ctx, c); err != nil {
		return err
	}
	s.Server, err = authz.New(ctx, authz.Config{
		Issuer: s.AuthURL, Development: true, Store: s.Store, Ring: ring, Password: c.Password, Log: c.Log,
		Abuse: policy(), SuspendedNotice: notice,
		Audit: audit.New(audit.Config{Log: c.Log, Store: s.Store, Keep: 24 * time.Hour, Secret: ring.Secret}),
	})
	if err != nil {
		return err
	}
	s.serve(&listeners[0], s.Server)
	s.work.Go(func() { s.Server.Run(run) })

	api, err := s.api(ctx, run, c)
	if err != nil {
		return err
	}
	s.serve(&listeners[1], api)
	app := s.app(c.Files)
	s.serve(&listeners[2], app)
	// Behind the copy is a server of its own, as there would be.
	double := http.NewServeMux()
	double.Handle("/", app)
	double.HandleFunc("POST /replay", s.replay)
	s.serve(&listeners[3], double)
	return nil
}

// open opens the store in the folder with a master key beside it.
func (s *Stage) open(ctx context.Context, c Config) (*keys.Ring, error) {
	path := filepath.Join(c.Folder, "master.key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var made string
		if made, err = keys.GenerateMaster(rand.Reader); err == nil {
			text = []byte(made)
			err = os.WriteFile(path, text, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the folder %s can't be used: %w; name another one with -folder", c.Folder, err)
	}
	master, err := keys.ParseMaster(text)
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a master key: %w; name another folder with -folder", path, err)
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(c.Folder, "solegate.db")})
	if err != nil {
		return nil, fmt.Errorf("%w; or name another folder with -folder", err)
	}
	s.Store = store // only now: an interface that holds a nil *Store is not nil, and Close would call it
	return keys.Open(ctx, keys.Config{Store: s.Store, Master: master, Log: c.Log})
}

// register makes the client and the user, or brings them up to date.
func (s *Stage) register(ctx context.Context, c Config) error {
	now := time.Now()
	s.Client = clients.Client{
		ID: "notes-spa", Name: "Notes", Development: true, Consent: c.Consent,
		RedirectURIs:           []clients.RedirectURI{clients.RedirectURI(s.SPAURL + "/callback")},
		PostLogoutRedirectURIs: []clients.RedirectURI{clients.RedirectURI(s.SPAURL + "/")},
		Origins:                []clients.Origin{clients.Origin(s.SPAURL)},
		Audiences:              []string{s.APIURL},
		Scopes:                 []string{"openid", "profile", "email", "offline_access", "notes:read", "notes:write"},
		CreatedAt:              now, UpdatedAt: now,
	}
	if _, err := s.Client.Validate(true); err != nil {
		return err
	}
	have, err := s.Store.Client(ctx, s.Client.ID)
	if err == nil {
		s.Client.Version = have.Version
		err = s.Store.UpdateClient(ctx, s.Client)
	} else if errors.Is(err, storage.ErrNotFound) {
		err = s.Store.CreateClient(ctx, s.Client)
	}
	if err != nil {
		return err
	}
	if _, err := s.Store.UserByName(ctx, User); !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	hasher, err := password.New(c.Password, nil)
	if err != nil {
		return err
	}
	encoded, err := hasher.Hash(ctx, Password)
	if err != nil {
		return err
	}
	id, err := clients.NewID(rand.Reader)
	if err != nil {
		return err
	}
	return s.Store.CreateUser(ctx, storage.User{
		ID: storage.UserID(id), Name: User, Password: encoded, DisplayName: "Alice", Email: "alice@example.com", EmailVerified: true,
		CreatedAt: now, UpdatedAt: now,
	})
}

// app serves the SPA's files and its config.json. The copy's pages come from the
// same handler: the files and the configuration are the same bytes.
func (s *Stage) app(folder string) http.Handler {
	config, err := json.Marshal(map[string]string{
		"issuer": s.AuthURL, "clientId": string(s.Client.ID), "api": s.APIURL,
		"redirectUri": s.SPAURL + "/callback", "postLogoutRedirectUri": s.SPAURL + "/", "scope": strings.Join(s.Client.Scopes, " "),
	})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	files := http.FileServer(http.Dir(folder))
	policy := fmt.Sprintf("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' %s %s; frame-src %s; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", s.AuthURL, s.APIURL, s.AuthURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		switch r.URL.Path {
		case "/config.json":
			h.Set("Content-Type", "application/json")
			w.Write(config)
			return
		case "/callback":
			r.URL.Path = "/"
		}
		files.ServeHTTP(w, r)
	})
}

// serve serves h on the listener, which it takes over.
func (s *Stage) serve(l *net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s.servers = append(s.servers, server)
	listener := *l
	*l = nil
	s.work.Go(func() { server.Serve(listener) })
}

// Close stops everything.
func (s *Stage) Close() error {
	deadline, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var errs []error
	if s.verifier != nil {
		errs = append(errs, s.verifier.Close(deadline)) // what it has to report, while somebody listens
	}
	s.stop()
	for _, server := range s.servers {
		if err := server.Shutdown(deadline); err != nil {
			errs = append(errs, server.Close())
		}
	}
	s.work.Wait()
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	return errors.Join(errs...)
}
