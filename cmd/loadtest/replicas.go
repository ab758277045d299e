package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage"
)

// replicas are servers on one store, APIs that follow their feed, and people
// who have tokens.
type replicas struct {
	*world
	client   *http.Client
	onSocket *http.Client // for the operator's API
	servers  []endpoint
	apis     []endpoint
	operator endpoint
	people   []someone
	memory   []memory
	chaos    bool

	credential struct { // of the API
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
}

// someone is a person who will be blocked.
type someone struct {
	id    storage.UserID
	name  string
	token string // access token
}

// tokenLife is the life of access tokens there: long enough that what is
// refused at the end is refused because it was revoked.
const tokenLife = time.Hour

// openReplicas starts everything that the revocation scenario needs. After an
// error nothing is left.
func openReplicas(ctx context.Context, o options) (_ *replicas, err error) {
	w, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(false))
		}
	}()
	// A thousand people log in; what a login costs is not the question here.
	if err := w.configure(fmt.Sprintf("lifetimes:\n  access_token: %s\npassword:\n  memory: 64\n  time: 1\n", tokenLife)); err != nil {
		return nil, err
	}
	r := &replicas{world: w, chaos: o.chaos, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * atOnce}}, onSocket: overSockets()}
	if err := r.registerAPI(ctx); err != nil {
		return nil, err
	}
	if o.population > 0 {
		if err := r.grow(ctx, o.population); err != nil {
			return nil, err
		}
	}
	if err := r.startServers(ctx, o.servers); err != nil {
		return nil, err
	}
	if err := r.startAPIs(ctx, o.apis); err != nil {
		return nil, err
	}
	if r.operator, err = w.again(ctx, "operator", operateMode, w.store()); err != nil {
		return nil, err
	}
	password := rand.Text()
	if w.clientID, err = w.register(ctx, password); err != nil {
		return nil, err
	}
	if w.person, err = login(ctx, w.issuer, w.clientID, username, password); err != nil {
		return nil, err
	}
	return r, r.settle(ctx, o.revocations, password)
}

// startServers starts n servers, the first of them at the issuer's address.
func (r *replicas) startServers(ctx context.Context, n int) (err error) {
	for i := range n {
		address := r.address
		if i > 0 {
			if address, err = freeAddress(); err != nil {
				return err
			}
		}
		server, err := r.serve(ctx, fmt.Sprintf("solegate-%d", i), address, "--admin-socket", r.socket(i))
		if err != nil {
			return err
		}
		r.servers = append(r.servers, endpoint{address, server.cmd.Process.Pid})
	}
	r.server = r.servers[0]
	return nil
}

// socket is where the operator's API of a server is.
func (r *replicas) socket(server int) string {
	return filepath.Join(r.dir, fmt.Sprintf("%d.sock", server))
}

// process is the one of a server or an API that runs now.
func (r *replicas) process(e endpoint) *process {
	i := slices.IndexFunc(r.processes, func(p *process) bool { return p.cmd.Process.Pid == e.pid })
	return r.processes[i]
}

// registerAPI gets the credential of the API.
func (r *replicas) registerAPI(ctx context.Context) error {
	out, err := r.command(ctx, "", "resource", "register", "--audience", audience, "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &r.credential); err != nil || r.credential.Secret == "" {
		return errors.New("solegate resource register --json: a secret was expected")
	}
	return nil
}

// startAPIs starts n replicas of the API, each with another server as its first
// choice.
func (r *replicas) startAPIs(ctx context.Context, n int) error {
	for range n {
		number := len(r.apis)
		f := following{Issuer: r.issuer, Credential: r.credential.ID, Secret: r.credential.Secret}
		for i := range r.servers {
			f.Servers = append(f.Servers, r.servers[(number+i)%len(r.servers)].address)
		}
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("api-%d", number)
		file := filepath.Join(r.dir, name+".json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return err
		}
		api, err := r.again(ctx, name, followMode, file)
		if err != nil {
			return err
		}
		r.apis = append(r.apis, api)
	}
	return nil
}

// settle makes n people, and signs them in. Each has the password of the first
// one, whom the command line made.
func (r *replicas) settle(ctx context.Context, n int, password string) error {
	store, err := openStore(ctx, r.store())
	if err != nil {
		return err
	}
	defer store.Close()
	first, err := store.UserByName(ctx, username)
	if err != nil {
		return err
	}
	r.people = make([]someone, n)
	return each(atOnce, n, func(i int) error {
		id, err := clients.NewID(rand.Reader)
		if err != nil {
			return err
		}
		p := &r.people[i]
		p.id, p.name = storage.UserID(id), fmt.Sprintf("person%07d", i)
		if err := store.CreateUser(ctx, storage.User{ID: p.id, Name: p.name, Password: first.Password, CreatedAt: r.now(), UpdatedAt: r.now()}); err != nil {
			return err
		}
		server := r.servers[i%len(r.servers)]
		who, err := login(ctx, "http://"+server.address, r.clientID, p.name, password)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		c := newConn(server.address)
		defer c.close()
		p.token, err = r.enter(c, server, who)
		return err
	})
}

// enter gets an access token for somebody who has logged in.
func (r *replicas) enter(c *conn, server endpoint, who person) (string, error) {
	resp, err := c.do(get(server.address, who.authorize, who.cookies))
	if err := expect(resp, err, 303); err != nil {
		return "", err
	}
	got, err := code(resp.location)
	if err != nil {
		return "", err
	}
	resp, err = c.do(newPost(server.address, "/token", origin).with("", redemption(r.clientID, who), got))
	return member(resp.body, "access_token"), expect(resp, err, 200)
}

// state is what a replica of the API says about the feed.
func (r *replicas) state(ctx context.Context, api endpoint) (s verify.FeedState, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api.address+statePath, nil)
	if err != nil {
		return s, err
	}
	resp, err := r.client.Do(q)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
