package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	osuser "os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/backchannel"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/sqlite"
)

// open opens the store at a location, a path or a URL. It is the one place
// that knows the backends.
func open(ctx context.Context, location string, development bool, log *slog.Logger) (storage.Store, error) {
	if isURL(location) {
		return redis.Open(ctx, redis.Config{URL: location, Development: development, Log: log})
	}
	return sqlite.Open(ctx, sqlite.Config{Path: location})
}

func isURL(location string) bool { return strings.Contains(location, "://") }

// shown is a location as it may be logged: a URL can have a password in it.
func shown(location string) string {
	if isURL(location) {
		return redis.Redacted(location)
	}
	return location
}

// started reports whether the store exists. A command that only looks, changes
// or ends something must not begin an empty one because its path was mistyped.
func started(c *configuration) error {
	if isURL(c.Store) {
		return nil // an empty Redis is as good as another
	}
	if _, err := os.Stat(c.Store); !errors.Is(err, fs.ErrNotExist) {
		return nil // open has more to say about any other trouble
	}
	if _, err := os.Stat(filepath.Dir(c.Store)); err != nil {
		return nil
	}
	return fmt.Errorf("there is no store at %s: serve and the first registration make it; name another with --store", c.Store)
}

// operator is what the commands beside serve work with.
type operator struct {
	*configuration
	store   storage.Store
	revoker *revocation.Revoker
	audit   *audit.Log
}

// operate opens the store, which must exist, for a command and closes it after.
func (a *app) operate(cmd *cobra.Command, do func(context.Context, *operator) error) error {
	return a.with(cmd, started, do)
}

// begin is operate for the commands that put something first into a store: it
// is made if there is none.
func (a *app) begin(cmd *cobra.Command, do func(context.Context, *operator) error) error {
	return a.with(cmd, func(*configuration) error { return nil }, do)
}

func (a *app) with(cmd *cobra.Command, ready func(*configuration) error, do func(context.Context, *operator) error) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	if len(c.mistakes) > 0 {
		return c.err()
	}
	if err := ready(c); err != nil {
		return err
	}
	ctx := cmd.Context()
	// What an operator does by hand is in the audit log, on standard error.
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	if a.json {
		log = slog.New(slog.NewJSONHandler(a.stderr, nil))
	}
	store, err := open(ctx, c.Store, c.Development, slog.New(slog.DiscardHandler)) // its warnings are serve's to give
	if err != nil {
		return err
	}
	// Who is told of an end is written down here; a server tells them. Places in
	// status lists are looked for whatever this command's configuration says: the
	// servers' may be another.
	keep := c.Audit.Keep
	if c.origin["audit.keep"] == defaultOrigin { // and so is what the servers were told
		if as, err := audit.Kept(ctx, store, keep); err == nil { // a log that can't be read keeps nobody from blocking somebody
			keep = as
		}
	}
	auditLog := audit.New(audit.Config{Log: log, Store: store, Keep: keep})
	revoker := revocation.New(revocation.Config{
		Store: store, Audit: auditLog, TokenLife: c.Lifetimes.AccessToken, Notify: backchannel.NewQueue(store, log, time.Now),
	})
	err = do(audit.WithOperator(ctx, who()), &operator{c, store, revoker, auditLog})
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return errors.Join(err, auditLog.Close(ending), store.Close())
}

// note writes down what an operator did, beside what the revoker writes.
func (o *operator) note(ctx context.Context, e audit.Event) error {
	if err := o.audit.Write(ctx, e); err != nil {
		return fmt.Errorf("%w: %w", revocation.ErrNotRecorded, err)
	}
	return nil
}

// auditTimeout is how long a command tries to keep its last lines of the audit
// log.
const auditTimeout = 10 * time.Second

// who is the operator, for the audit log: the user of the operating system.
func who() string {
	if u, err := osuser.Current(); err == nil && u.Username != "" {
		return "cli:" + u.Username
	}
	return fmt.Sprintf("cli:uid %d", os.Getuid()) // an account without a name, as in containers
}

// operatorFlags are the settings that such a command takes as flags.
func operatorFlags(cmds ...*cobra.Command) {
	for _, cmd := range cmds {
		settingFlags(cmd, nil, "store", "development", "master_key_file")
	}
}

var errNoMasterKey = errors.New("there is no master key: make one with `solegate key generate-master > master.key`, keep a copy in a safe place, and name it in master_key_file")

// master reads the master key. In development a missing one is made beside
// the store, unless the store holds keys that another one sealed.
func (c *configuration) master(ctx context.Context, store storage.Keys, log *slog.Logger) (keys.Master, error) {
	var previous [][]byte
	for _, file := range c.PreviousMasterKeyFiles {
		text, err := os.ReadFile(file)
		if err != nil {
			return keys.Master{}, fmt.Errorf("previous master key: %w", err)
		}
		previous = append(previous, text)
	}
	if c.MasterKey != "" {
		return keys.ParseMaster([]byte(c.MasterKey), previous...)
	}
	path := c.MasterKeyFile
	if path == "" {
		if !c.Development {
			return keys.Master{}, errNoMasterKey
		}
		path = c.madeMaster()
		if err := makeMaster(ctx, path, store, log); err != nil {
			return keys.Master{}, err
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return keys.Master{}, fmt.Errorf("master key: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("the master key file can be read by others; run chmod 600 on it", "file", path, "mode", info.Mode().String())
	}
	m, err := keys.ParseMaster(text, previous...)
	if err != nil {
		return keys.Master{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// madeMaster is where development mode makes the master key: beside an SQLite
// file, else in the folder that it runs in.
func (c *configuration) madeMaster() string {
	if isURL(c.Store) {
		return "master.key"
	}
	return filepath.Join(filepath.Dir(c.Store), "master.key")
}

func makeMaster(ctx context.Context, path string, store storage.Keys, log *slog.Logger) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A new one would open nothing, and would lie where the right one belongs.
	if _, err := store.KeyRing(ctx); err == nil {
		return fmt.Errorf("the master key %s is gone, and only it opens the keys in the store: put it back, or name it in master_key_file", path)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	text, err := keys.GenerateMaster(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	log.Warn("development mode: a master key was made", "file", path)
	return nil
}

// ring opens the key ring.
func (c *configuration) ring(ctx context.Context, store storage.Store, log *slog.Logger) (*keys.Ring, error) {
	m, err := c.master(ctx, store, log)
	if err != nil {
		return nil, err
	}
	return keys.Open(ctx, keys.Config{
		Store: store, Master: m, RotateEvery: c.Keys.RotateEvery, PublishAhead: c.Keys.PublishAhead,
		TokenLife: max(c.Lifetimes.AccessToken, c.Lifetimes.IDToken), Log: log,
	})
}
