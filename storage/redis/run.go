package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
)

// repeat says what may be done about a write of which no answer came back.
type repeat int

const (
	// never: it may have happened, and a second time would say something else.
	never repeat = iota
	// harmless: doing it again changes nothing.
	harmless
	// marked: the script is told that it is asked again, and takes a record
	// that already is as it should be for its own doing.
	marked
)

// write is one script on keys of one hash slot.
type write struct {
	script *script
	keys   []string
	args   []any
	repeat repeat
	again  int // the argument that marks a repetition, if it is marked
	// lasting: the answer waits until the replicas have it, too.
	lasting bool
	// ends: it takes something from somebody, and waits for the disk, too, if
	// the configuration asks for that. It is lasting.
	ends bool
}

// do runs a script that answers with an outcome.
func (s *Store) do(ctx context.Context, w write) error {
	reply, err := s.run(ctx, w)
	if err != nil {
		return err
	}
	n, ok := reply.(int64)
	if !ok || n < 0 || n >= int64(len(errorsOf)) {
		return fmt.Errorf("%w: script %s answered %v", storage.ErrUnavailable, w.script.name, reply)
	}
	return errorsOf[n]
}

// run runs a script until it has an answer, for as long as the time limit
// allows. What was refused before it began (a server that loads, that is no
// primary any more, that is full) is tried again; what may have happened is
// tried again only if that does no harm.
//
// All retries are here: the client's own would repeat a redemption whose
// answer was lost.
func (s *Store) run(ctx context.Context, w write) (any, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit(s.holdOf(w)))
	defer cancel()
	var to redirect
	unsure, redirects := false, 0
	for attempt := 0; ; attempt++ {
		reply, err := s.attempt(ctx, w, to)
		to = redirect{}
		switch f := fate(err); {
		case err == nil:
			return reply, nil
		case errors.Is(err, errNotHeld):
			return nil, err
		case f == unknown && w.repeat == never:
			return nil, fmt.Errorf("%w: %w", storage.ErrUnknown, err)
		case f == unknown:
			unsure = true
			if w.repeat == marked {
				w.args[w.again] = "1"
			}
		case f == final:
			return nil, outcome(unsure, err)
		}
		if to = s.follow(ctx, err); to.node != nil {
			redirects++
		}
		// Two servers may each say that the other has it, while the cluster
		// agrees on who does.
		if ctx.Err() != nil || (to.node == nil || redirects > 2) && !pause(ctx, attempt) {
			return nil, outcome(unsure, err)
		}
	}
}

func outcome(unsure bool, err error) error {
	if unsure {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
}

// begin refuses what must not even begin.
func (s *Store) begin(ctx context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("%w: the store was closed", storage.ErrUnavailable)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return nil
}

// pause waits before the next attempt, a little longer each time and never the
// same. It reports whether there is time for one.
func pause(ctx context.Context, attempt int) bool {
	d := min(5*time.Millisecond<<min(attempt, 5), 100*time.Millisecond)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// redirect is where a cluster says that a key is now.
type redirect struct {
	node   *redis.Client
	asking bool // it is on its way there
}

var errNotHeld = fmt.Errorf("%w: it was written, but is not known to be kept", storage.ErrUnknown)

// attempt runs the script once, at the primary of its keys.
func (s *Store) attempt(ctx context.Context, w write, to redirect) (any, error) {
	node := to.node
	if node == nil {
		var err error
		if node, err = s.primary(ctx, w.keys[0]); err != nil {
			return nil, refused{err}
		}
	}
	reply, err := s.eval(ctx, node, w, "evalsha", w.script.sha, to.asking)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = s.eval(ctx, node, w, "eval", w.script.text, to.asking)
	}
	return reply, err
}

// eval sends the script by its hash or its text. What is lasting is followed
// by a WAIT or WAITAOF on the same connection: those count what was written on
// that.
func (s *Store) eval(ctx context.Context, node *redis.Client, w write, command, script string, asking bool) (any, error) {
	args := make([]any, 0, 3+len(w.keys)+len(w.args))
	args = append(args, command, script, len(w.keys))
	for _, key := range w.keys {
		args = append(args, key)
	}
	cmd := redis.NewCmd(ctx, append(args, w.args...)...)
	c := &call{commands: []redis.Cmder{cmd}}
	if asking {
		c.commands = []redis.Cmder{redis.NewCmd(ctx, "asking"), cmd}
	}
	if err := s.batcher(node, s.holdOf(w)).do(ctx, c); err != nil {
		return nil, refused{err}
	}
	reply, err := cmd.Result()
	if err == nil && c.heldErr != nil { // the script has run
		return nil, fmt.Errorf("%w: %w", errNotHeld, c.heldErr)
	}
	return reply, err
}

// refused is an error of before anything was sent.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

type fateOf int

const (
	unknown fateOf = iota // it may have happened
	later                 // it did not happen, and may soon
	final                 // it did not happen, and won't by trying again
)

// fate says what an error means for what was asked.
func fate(err error) fateOf {
	var answered redis.Error
	var op *net.OpError
	switch {
	case err == nil:
		return final
	case errors.As(err, &answered) && !errors.Is(err, redis.Nil):
		// The server answered, so it did not do it: a script whose first
		// write is refused has written nothing.
		for _, soon := range []string{"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ", "MASTERDOWN ", "LOADING ", "READONLY ", "BUSY ", "NOREPLICAS ", "UNBLOCKED "} {
			if strings.HasPrefix(answered.Error(), soon) {
				return later
			}
		}
		if strings.Contains(answered.Error(), "non local key") {
			return later // the slot moved while the script was on its way
		}
		return final
	case errors.As(err, &refused{}), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted), errors.Is(err, redis.ErrClosed):
		return later
	case errors.As(err, &op) && op.Op == "dial":
		return later
	}
	return unknown
}

// follow says where an error sends to, if it does.
func (s *Store) follow(ctx context.Context, err error) (to redirect) {
	if s.spread == nil {
		return redirect{}
	}
	s.spread.ReloadState(ctx)
	if addr, ok := redis.IsMovedError(err); ok {
		to.node = s.nodeAt(addr)
	} else if addr, ok := redis.IsAskError(err); ok {
		to.node, to.asking = s.nodeAt(addr), true
	}
	return to
}

// nodeAt returns the client of a cluster's node, nil if it is not known yet.
func (s *Store) nodeAt(addr string) *redis.Client {
	node, _ := s.nodes.Load(addr)
	client, _ := node.(*redis.Client)
	return client
}

// primary returns the client of the server that has the key.
func (s *Store) primary(ctx context.Context, key string) (*redis.Client, error) {
	if s.spread != nil {
		return s.spread.MasterForKey(ctx, key)
	}
	return s.one, nil
}

// primaries calls do with every primary, one after the other.
func (s *Store) primaries(ctx context.Context, do func(*redis.Client) error) error {
	if s.spread == nil {
		return do(s.one)
	}
	turn := make(chan struct{}, 1) // the cluster's client calls from several goroutines
	return s.spread.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return do(node)
	})
}

// read sends reads in one trip and waits for all answers. It tries again, for
// as long as the time limit allows, whatever went wrong.
func (s *Store) read(ctx context.Context, commands func(redis.Pipeliner)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		pipe := s.client.Pipeline()
		commands(pipe)
		all := pipe.Cmds()
		var err error
		if attempt == 0 && len(all) <= maxTogether {
			err = s.together(ctx, all)
		} else {
			execute(ctx, pipe) // it follows redirections by itself
		}
		for _, c := range all {
			if e := c.Err(); e != nil && !errors.Is(e, redis.Nil) {
				err = e
				break
			}
		}
		if err == nil {
			return nil
		}
		if s.spread != nil {
			s.spread.ReloadState(ctx)
		}
		if fate(err) == final || ctx.Err() != nil || !pause(ctx, attempt) {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
	}
}

// maxTogether is how many reads are sent with other callers'; more have a
// connection of their own.
const maxTogether = 16

// together sends reads with those of other callers, to each server its own.
func (s *Store) together(ctx context.Context, commands []redis.Cmder) error {
	if s.spread == nil {
		return s.batcher(s.one, nothing).do(ctx, &call{commands: commands})
	}
	calls := map[*redis.Client]*call{}
	for _, cmd := range commands {
		key, _ := cmd.Args()[1].(string) // of every read that is used here
		node, err := s.primary(ctx, key)
		if err != nil {
			return refused{err}
		}
		if calls[node] == nil {
			calls[node] = &call{}
		}
		calls[node].commands = append(calls[node].commands, cmd)
	}
	errs := make(chan error, len(calls))
	n := 0
	for node, c := range calls {
		if n++; n < len(calls) {
			go func() { errs <- s.batcher(node, nothing).do(ctx, c) }()
		} else {
			errs <- s.batcher(node, nothing).do(ctx, c)
		}
	}
	var first error
	for range calls {
		if err := <-errs; err != nil && first == nil {
			first = refused{err}
		}
	}
	return first
}

// get reads keys in one trip, "" for those that are not there.
func (s *Store) get(ctx context.Context, keys ...string) ([]string, error) {
	answers := make([]*redis.StringCmd, len(keys))
	err := s.read(ctx, func(p redis.Pipeliner) {
		for i, key := range keys {
			answers[i] = p.Get(ctx, key)
		}
	})
	if err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	for i, a := range answers {
		values[i] = a.Val()
	}
	return values, nil
}
