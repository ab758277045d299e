package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/sqlite"
)

// operateMode is an operator's process that stays: it does what `solegate user
// block` does, by the same function on the same store, without a start and an
// end for each. Its argument is the store.
const operateMode = "serve-operator"

// openStore opens the servers' store, beside them.
func openStore(ctx context.Context, location string) (storage.Store, error) {
	if strings.Contains(location, "://") {
		return redis.Open(ctx, redis.Config{URL: location})
	}
	return sqlite.Open(ctx, sqlite.Config{Path: location})
}

// serveOperator blocks the user whose identifier is in the body of a request,
// and answers with when that was.
func serveOperator(ctx context.Context, stdin io.Reader, stdout io.Writer, location string) error {
	store, err := openStore(ctx, location)
	if err != nil {
		return err
	}
	defer store.Close()
	log := audit.New(audit.Config{Store: store}) // as a command does
	defer log.Close(context.WithoutCancel(ctx))
	return serve(stdin, stdout, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == readyPath {
			return
		}
		id, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		timed := timedStore{Store: store}
		if err == nil {
			revoker := revocation.New(revocation.Config{Store: &timed, Audit: log, TokenLife: tokenLife})
			err = revoker.BlockUser(r.Context(), storage.UserID(id), "load test", time.Time{})
		}
		returned := time.Now()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(blocked{timed.lasting, returned})
	}))
}

// timedStore notes when the event was in the store.
type timedStore struct {
	storage.Store
	lasting time.Time
}

// AppendEvents implements [storage.Events].
func (s *timedStore) AppendEvents(ctx context.Context, list []storage.Event, now time.Time) error {
	err := s.Store.AppendEvents(ctx, list, now)
	s.lasting = time.Now()
	return err
}

// blocked is when a block's event was lasting in the store, and when all of it
// was done.
type blocked struct {
	Lasting  time.Time `json:"lasting"`
	Returned time.Time `json:"returned"`
}

// blockBy lets the operator's process block a user.
func blockBy(ctx context.Context, client *http.Client, operator endpoint, id storage.UserID) (b blocked, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+operator.address, strings.NewReader(string(id)))
	if err != nil {
		return b, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		return b, fmt.Errorf("the operator's process: %s", text)
	}
	return b, json.NewDecoder(resp.Body).Decode(&b)
}

// overSockets is a client whose requests go to the socket that their context
// names.
func overSockets() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		socket, _ := ctx.Value(socketKey{}).(string)
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

type socketKey struct{}

// blockAt blocks a user by the operator's API of a server, and returns when it
// had answered.
func (r *replicas) blockAt(ctx context.Context, server int, id storage.UserID) (time.Time, error) {
	ctx = context.WithValue(ctx, socketKey{}, r.socket(server))
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/admin/users/"+string(id)+"/block", nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := r.onSocket.Do(q)
	returned := time.Now()
	if err != nil {
		return returned, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		return returned, fmt.Errorf("the operator's API answered %d: %s", resp.StatusCode, text)
	}
	return returned, nil
}
