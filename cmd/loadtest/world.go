package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/keys/verify"
)

// world is the three servers, the client, the person, and the folder that all
// of it lives in.
type world struct {
	target
	program   string // solegate
	issuer    string
	address   string // the issuer's host and port
	dir       string
	config    string
	storeURL  string // of the Redis; empty: an SQLite file
	redis     *process
	processes []*process
}

// open starts everything that the scenarios need. After an error nothing is
// left.
func open(ctx context.Context, o options) (_ *world, err error) {
	w, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(false))
		}
	}()
	if err := w.configure(""); err != nil {
		return nil, err
	}
	server, err := w.serve(ctx, "solegate", w.address)
	if err != nil {
		return nil, err
	}
	w.server = endpoint{w.address, server.cmd.Process.Pid}

	password := rand.Text()
	if w.clientID, err = w.register(ctx, password); err != nil {
		return nil, err
	}
	if w.person, err = login(ctx, w.issuer, w.clientID, username, password); err != nil {
		return nil, err
	}
	if w.bare, err = w.again(ctx, "bare", bareMode); err != nil {
		return nil, err
	}
	if w.api, err = w.again(ctx, "api", apiMode, w.issuer, audience); err != nil {
		return nil, err
	}
	w.protected, err = protectedHere(ctx, verifier(w.issuer, audience))
	return w, err
}

// begin makes the folder, the master key and the store, and chooses the
// issuer. After an error nothing is left.
func begin(ctx context.Context, o options) (_ *world, err error) {
	program, err := filepath.Abs(o.server)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("no server to measure: %w: build it with make build", err)
	}
	dir, err := os.MkdirTemp(o.dir, "loadtest-")
	if err != nil {
		return nil, fmt.Errorf("no folder for the data: %w: name another one with --dir", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	w := &world{program: program, dir: dir, config: filepath.Join(dir, "solegate.yaml")}
	w.now = time.Now
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(false))
		}
	}()
	if o.store == "redis" {
		if err := w.startRedis(ctx); err != nil {
			return nil, err
		}
	}
	if w.address, err = freeAddress(); err != nil {
		return nil, err
	}
	w.issuer = "http://" + w.address
	key, err := keys.GenerateMaster(rand.Reader)
	if err != nil {
		return nil, err
	}
	return w, os.WriteFile(filepath.Join(dir, "master.key"), []byte(key), 0o600)
}

// configure writes the servers' configuration: the defaults, but for more,
// which is lines of YAML.
func (w *world) configure(more string) error {
	return os.WriteFile(w.config, []byte("issuer: "+w.issuer+"\nlisten: "+w.address+
		"\ndevelopment: true\nmaster_key_file: "+filepath.Join(w.dir, "master.key")+"\nstore: "+w.store()+"\n"+more), 0o600)
}

// serve starts a server, with more flags, and waits until it is ready.
func (w *world) serve(ctx context.Context, name, address string, more ...string) (*process, error) {
	args := append([]string{"serve", "--config", w.config, "--listen", address}, more...)
	server, err := start(exec.Command(w.program, args...), w.dir, name, address)
	if err != nil {
		return nil, err
	}
	w.processes = append(w.processes, server)
	return server, server.ready(ctx)
}

// protectedHere is the API's handler in this process, when it has the keys.
func protectedHere(ctx context.Context, c verify.Config) (http.Handler, error) {
	v, err := verify.New(ctx, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for v.Ready() != nil {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the verifier got no keys: %w", v.Ready())
		}
	}
	return protect(v), nil
}

// store is where the server keeps everything.
func (w *world) store() string {
	if w.storeURL != "" {
		return w.storeURL
	}
	return filepath.Join(w.dir, "solegate.db")
}

// again starts this program again, as a server.
func (w *world) again(ctx context.Context, name string, args ...string) (endpoint, error) {
	self, err := os.Executable()
	if err != nil {
		return endpoint{}, err
	}
	p, err := start(exec.Command(self, args...), w.dir, name, "")
	if err != nil {
		return endpoint{}, err
	}
	w.processes = append(w.processes, p)
	return endpoint{p.address, p.cmd.Process.Pid}, p.ready(ctx)
}

// register makes the client and the person by the command line, while the
// server runs.
func (w *world) register(ctx context.Context, password string) (clientID string, err error) {
	args := []string{"client", "register", "--name", "Load test",
		"--redirect-uri", spaRedirect, "--origin", spaOrigin, "--audience", audience, "--json"}
	for scope := range strings.FieldsSeq(scopes) {
		args = append(args, "--scope", scope)
	}
	out, err := w.command(ctx, "", args...)
	if err != nil {
		return "", err
	}
	var client struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(out, &client); err != nil || client.ID == "" {
		return "", fmt.Errorf("solegate client register --json: an id was expected, it printed %.200q", out)
	}
	_, err = w.command(ctx, password+"\n", "user", "add", username)
	return client.ID, err
}

// command runs solegate.
func (w *world) command(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, w.program, append(args, "--config", w.config)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(w.program), strings.Join(args[:2], " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// close ends the processes and removes the folder, unless it is to be kept to
// look at what went wrong.
func (w *world) close(keep bool) error {
	var errs []error
	for _, p := range w.processes {
		errs = append(errs, p.stop())
	}
	if keep {
		return errors.Join(append(errs, fmt.Errorf("the logs and the data are in %s", w.dir))...)
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// describe says what is measured where.
func (w *world) describe(o options) string {
	each := o.duration.String()
	if o.requests > 0 {
		each = fmt.Sprintf("%d operations", o.requests)
	}
	s := fmt.Sprintf("%d workers, %s each, %d grants; %s %s/%s, %d cores for the generator and the servers together\n",
		o.workers, each, o.grants, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if kind := fileSystem(string(mounts), w.dir); kind == "tmpfs" || kind == "ramfs" {
		s += fmt.Sprintf("NOT DURABLE: %s is in memory (%s), so nothing waits for a disk; name a folder on one with --dir\n", w.dir, kind)
	}
	return s
}

// fileSystem is the kind of file system that holds the path, by the text of
// /proc/self/mounts; empty if it does not say.
func fileSystem(mounts, path string) (kind string) {
	longest := 0
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		at := strings.TrimSuffix(f[1], "/") + "/"
		if strings.HasPrefix(path+"/", at) && len(at) >= longest {
			longest, kind = len(at), f[2]
		}
	}
	return kind
}

// freeAddress is an address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
