package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
)

// startRedis starts a Redis of our own that keeps an append-only file, and
// waits until a store can be opened on it.
func (w *world) startRedis(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(w.dir, "redis"), 0o700); err != nil {
		return err
	}
	w.storeURL = "redis://" + address
	return w.runRedis(ctx, address)
}

// runRedis starts it, for the first time or again.
func (w *world) runRedis(ctx context.Context, address string) error {
	_, port, _ := strings.Cut(address, ":")
	server, err := start(exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", filepath.Join(w.dir, "redis"), "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"), w.dir, "redis", address)
	if err != nil {
		return fmt.Errorf("--store redis: %w: on Debian, apt-get install redis-server", err)
	}
	w.processes = append(w.processes, server)
	w.redis = server
	w.storePID = server.cmd.Process.Pid
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		s, err := redis.Open(ctx, redis.Config{URL: w.storeURL})
		if err == nil {
			return s.Close()
		}
		select {
		case <-poll.C:
		case <-server.ended:
			return fmt.Errorf("redis-server ended: %s", server.lastWords())
		case <-ctx.Done():
			return err
		}
	}
}

// grantsEach is how many grants a person of the population has, each of a
// login of its own.
const grantsEach = 10

// populate fills the Redis with people, their sessions and their grants, and
// says what each takes of its memory.
func (w *world) populate(ctx context.Context, grants int, out io.Writer) error {
	s, err := redis.Open(ctx, redis.Config{URL: w.storeURL})
	if err != nil {
		return err
	}
	defer s.Close()
	now := time.Now()
	people := make([]storage.UserID, max(1, grants/grantsEach))
	for i := range people {
		id, err := clients.NewID(rand.Reader)
		if err != nil {
			return err
		}
		people[i] = storage.UserID(id)
	}
	sessions := make([]storage.SessionID, grants)
	for i := range sessions {
		if sessions[i], err = storage.NewSessionID(people[i%len(people)], rand.Reader); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		what string
		n    int
		put  func(i int) error
	}{
		{"user", len(people), func(i int) error {
			return s.CreateUser(ctx, storage.User{
				ID: people[i], Name: fmt.Sprintf("person%07d@example.com", i), Email: fmt.Sprintf("person%07d@example.com", i), EmailVerified: true,
				DisplayName: "A Person", CreatedAt: now, UpdatedAt: now,
				Password: "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
			})
		}},
		{"session", grants, func(i int) error {
			return s.CreateSession(ctx, storage.Session{
				ID: sessions[i], User: sessions[i].User(), AuthTime: now, ACR: "urn:solegate:acr:password", AMR: []string{"pwd"}, CreatedAt: now, LastSeen: now,
				IdleExpires: now.Add(24 * time.Hour), Expires: now.Add(7 * 24 * time.Hour), Address: "203.0.113.77",
				UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
			})
		}},
		{"grant", grants, func(i int) error {
			id, err := storage.NewGrantID(sessions[i], rand.Reader)
			if err != nil {
				return err
			}
			return s.CreateGrant(ctx, storage.Grant{
				ID: id, User: id.User(), Session: id.Session(), Client: clients.ID(w.clientID), Scope: strings.Fields(scopes), Resource: []string{audience},
				AuthTime: now, ACR: "urn:solegate:acr:password", AMR: []string{"pwd"}, Salt: [16]byte{byte(i), 1}, RedirectURI: spaRedirect,
				CodeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Nonce: "n-0S6_WzA2Mjn-0S6_WzA2Mj",
				CodeExpires: now.Add(time.Minute), RedeemedAt: now, Generation: 1, IdleExpires: now.Add(24 * time.Hour), Expires: now.Add(7 * 24 * time.Hour), CreatedAt: now,
			})
		}},
	} {
		before, err := w.redisMemory(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := each(64, step.n, step.put); err != nil {
			return fmt.Errorf("population: %s: %w", step.what, err)
		}
		after, err := w.redisMemory(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%9d %ss: %d bytes of Redis memory each, written at %.0f a second\n",
			step.n, step.what, (after-before)/int64(step.n), float64(step.n)/time.Since(began).Seconds())
	}
	return nil
}

// each calls put with 0 to n-1, from so many goroutines, until one fails.
func each(goroutines, n int, put func(int) error) error {
	var next atomic.Int64
	var work sync.WaitGroup
	errs := make(chan error, 1)
	for range goroutines {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := put(int(i)); err != nil {
					next.Store(int64(n))
					select {
					case errs <- err:
					default:
					}
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// redisMemory is what Redis says that its data takes, in bytes.
func (w *world) redisMemory(ctx context.Context) (int64, error) {
	out, err := exec.CommandContext(ctx, "redis-cli", "-u", w.storeURL, "info", "memory").Output()
	if err != nil {
		return 0, fmt.Errorf("redis-cli info memory: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, errors.New("redis-cli info memory: no used_memory")
}
