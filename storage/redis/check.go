package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
)

// Check implements [storage.Store]: it walks all keys of all primaries.
func (s *Store) Check(ctx context.Context, problem func(string)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := s.primaries(ctx, func(node *redis.Client) error {
		var cursor uint64
		for {
			keys, next, err := node.Scan(ctx, cursor, escapeGlob(s.prefix)+"*", 500).Result()
			if err != nil {
				return err
			}
			for _, key := range keys {
				if err := s.checkKey(ctx, node, key, problem); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
	if err != nil && !errors.Is(err, storage.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}

func escapeGlob(s string) string {
	return strings.NewReplacer("*", "\\*", "?", "\\?", "[", "\\[").Replace(s)
}

// checkKey checks one key, by what its name says that it is.
func (s *Store) checkKey(ctx context.Context, node *redis.Client, key string, problem func(string)) error {
	say := func(format string, args ...any) {
		problem(fmt.Sprintf("key %q: ", key) + fmt.Sprintf(format, args...))
	}
	name := strings.TrimPrefix(key, s.prefix)
	begins := func(kinds ...string) bool {
		return slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(name, k) })
	}
	wanted, ends := "string", begins("s{", "g{", "i{", "k{", "q{", "t{", "w{", "x{", "{l}", "{k}") || name == "{r}ready"
	switch {
	case name == "{r}clients" || name == "{r}apis" || name == "{l}due" || begins("o{", "i{", "{k}"):
		wanted = "zset"
	case name == "{e}events" || name == "{a}audit":
		wanted = "stream"
	case name == "{l}logouts" || begins("n{"):
		wanted = "hash"
	}
	pipe := node.Pipeline()
	kind, left := pipe.Type(ctx, key), pipe.PTTL(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	switch {
	case kind.Val() == "none":
		return nil // it expired, or was removed
	case kind.Val() != wanted:
		say("it is a %s, a %s is expected", kind.Val(), wanted)
		return nil
	case ends && left.Val() == -1:
		say("it never expires")
	case !ends && left.Val() > 0:
		say("it expires in %s", left.Val().Round(time.Second))
	}
	switch name {
	case "{l}logouts":
		return s.checkLogouts(ctx, node, key, say)
	case "{e}events":
		return checkEvents(ctx, node, key, say)
	case "{a}audit":
		return checkAudit(ctx, node, key, say)
	}
	if wanted == "hash" {
		return s.checkNames(ctx, node, key, say)
	}
	if wanted == "zset" || wanted == "stream" {
		return nil // what it lists and is not there is left out of lists
	}
	value, err := node.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	} else if err != nil {
		return err
	}
	user, rest := untag(name)
	switch {
	case strings.HasPrefix(name, "{r}c:"):
		_, err = decodeClient(value)
	case strings.HasPrefix(name, "{r}a:"):
		_, err = decodeResourceServer(value)
	case name == "{r}ring":
		_, err = decodeVersioned("key ring", value, &storage.KeyRing{})
	case name == "{r}format" || name == "{r}ready" || begins("q{", "t{", "w{", "x{"):
	case strings.HasPrefix(name, "u{"):
		var u storage.User
		if u, err = decodeUser(value); err != nil {
			break
		}
		if u.ID != user {
			say("it is the account of %q", u.ID)
		}
		e, entryErr := s.entry(ctx, u.Name)
		if errors.Is(entryErr, storage.ErrUnavailable) {
			return entryErr
		}
		if entryErr != nil || e.user != u.ID {
			// Not while a rename or a creation is under way.
			if again, err := s.User(ctx, u.ID); err == nil && again.Name == u.Name {
				say("its name %q is not its own in the index of names", u.Name)
			}
		}
	case strings.HasPrefix(name, "k{"):
		var c storage.Case
		if c, err = decodeCase(value); err != nil {
			break
		}
		if c.User != user {
			say("it is the case of %q", c.User)
		}
		if err := c.Bounded(); err != nil {
			say("%v", err)
		}
		err = s.checkListed(ctx, user, say)
	case strings.HasPrefix(name, "s{"):
		_, err = decodeSession(storage.SessionID(string(user)+rest), value)
		if err == nil {
			err = s.checkIndexed(ctx, node, user, "s"+rest, key, say)
		}
	case strings.HasPrefix(name, "g{"):
		_, err = decodeGrant(storage.GrantID(string(user)+rest), value)
		if err == nil {
			err = s.checkIndexed(ctx, node, user, "g"+rest, key, say)
		}
	default:
		say("nothing of this version has such a name")
	}
	if errors.Is(err, errDamaged) {
		say("%v", err)
		return nil
	}
	return err
}

// checkIndexed checks that a session or grant is in its user's index.
func (s *Store) checkIndexed(ctx context.Context, node *redis.Client, user storage.UserID, member, key string, say func(string, ...any)) error {
	err := node.ZScore(ctx, s.indexKey(user), member).Err()
	if !errors.Is(err, redis.Nil) {
		return err
	}
	if n, err := node.Exists(ctx, key).Result(); err != nil || n == 0 {
		return err
	}
	say("it is not in its user's index")
	return nil
}

// checkListed checks that a case is in the order of cases.
func (s *Store) checkListed(ctx context.Context, user storage.UserID, say func(string, ...any)) error {
	var score *redis.FloatCmd
	if err := s.read(ctx, func(p redis.Pipeliner) { score = p.ZScore(ctx, s.casesKey(), string(user)) }); err != nil {
		return err
	}
	if errors.Is(score.Err(), redis.Nil) {
		say("it is not in the order of cases")
	}
	return nil
}

// checkNames checks the entries of a bucket. One whose user is not there, or
// has another name, counts for nothing and is no problem.
func (s *Store) checkNames(ctx context.Context, node *redis.Client, key string, say func(string, ...any)) error {
	var cursor uint64
	for {
		pairs, next, err := node.HScan(ctx, key, cursor, "", 500).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			name := pairs[i]
			if _, err := parseEntry(pairs[i+1]); err != nil {
				say("name %q: %v", name, err)
			}
			if keys := s.nameKeys(name); keys[0] != key {
				say("name %q belongs into %s", name, keys[0])
			} else if err := node.ZScore(ctx, keys[1], name).Err(); errors.Is(err, redis.Nil) {
				if still, err := node.HExists(ctx, key, name).Result(); err != nil {
					return err
				} else if still {
					say("name %q is not in the ordered index", name)
				}
			} else if err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// checkLogouts checks the queue: what is not in order is never claimed.
func (s *Store) checkLogouts(ctx context.Context, node *redis.Client, key string, say func(string, ...any)) error {
	var cursor uint64
	for {
		pairs, next, err := node.HScan(ctx, key, cursor, "", 500).Result()
		if err != nil {
			return err
		}
		for pair := range slices.Chunk(pairs, 2) {
			if _, err := decodeLogout(pair[0], pair[1]); err != nil {
				say("logout %q: %v", pair[0], err)
			} else if err := node.ZScore(ctx, s.dueKey(), pair[0]).Err(); errors.Is(err, redis.Nil) {
				if still, err := node.HExists(ctx, key, pair[0]).Result(); err != nil {
					return err
				} else if still {
					say("logout %q is not in the order by when they are due", pair[0])
				}
			} else if err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// checkEvents checks the stream: who follows it stops at what can't be read.
func checkEvents(ctx context.Context, node *redis.Client, key string, say func(string, ...any)) error {
	const page = 500
	for from := "-"; ; {
		entries, err := node.XRangeN(ctx, key, from, "+", page).Result()
		if err != nil {
			return err
		}
		for _, m := range entries {
			if _, err := decodeEvent(m); err != nil {
				say("%v", err)
			}
			from = "(" + m.ID
		}
		if len(entries) < page {
			return nil
		}
	}
}

var unescapes = strings.NewReplacer("%25", "%", "%7D", "}")

// untag takes the user and what follows out of a key.
func untag(name string) (storage.UserID, string) {
	_, name, _ = strings.Cut(name, "{")
	user, rest, _ := strings.Cut(name, "}")
	return storage.UserID(unescapes.Replace(user)), rest
}
