package redis

import (
	"cmp"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/storage"
)

// A reservation lasts longer than any operation; the account must be written a
// good while before its end, so that clocks of two servers may differ by that.
const (
	reservation = 60 * time.Second
	clockMargin = 20 * time.Second
)

// entry is who has a user name.
type entry struct {
	text     string // as it is stored
	deadline int64  // seconds since the epoch
	nonce    string
	user     storage.UserID
}

func parseEntry(text string) (entry, error) {
	deadline, rest, _ := strings.Cut(text, ":")
	nonce, user, ok := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(deadline, 10, 64)
	if !ok || err != nil {
		return entry{}, damaged("name", fmt.Errorf("%.20q is no entry", text))
	}
	return entry{text, n, nonce, storage.UserID(user)}, nil
}

// fence is when the account must have been written.
func (e entry) fence() string {
	return strconv.FormatInt(e.deadline-int64(clockMargin/time.Second), 10)
}

func (s *Store) nameKeys(name string) []string {
	b := bucketOf(name)
	return []string{s.entriesKey(b), s.namesKey(b)}
}

// entry returns who has the name. ErrNotFound when nobody has.
func (s *Store) entry(ctx context.Context, name string) (entry, error) {
	var text *redis.StringCmd
	err := s.read(ctx, func(p redis.Pipeliner) { text = p.HGet(ctx, s.nameKeys(name)[0], name) })
	switch {
	case err != nil:
		return entry{}, err
	case text.Val() == "":
		return entry{}, storage.ErrNotFound
	}
	return parseEntry(text.Val())
}

// reserve takes a name for a user. ErrExists when it is another's, or is about
// to be.
func (s *Store) reserve(ctx context.Context, name string, id storage.UserID) (entry, error) {
	var random [10]byte
	if _, err := io.ReadFull(s.rand, random[:]); err != nil {
		return entry{}, err
	}
	nonce := base32.StdEncoding.EncodeToString(random[:])
	var over entry // whose time is up
	for {
		// Lasting: the account is in another slot, and must not outlive its name.
		reply, err := s.run(ctx, write{script: reserveScript, keys: s.nameKeys(name), repeat: harmless, lasting: true,
			args: []any{name, string(id), nonce, int(reservation / time.Second), over.text}})
		if err != nil {
			return entry{}, err
		}
		text, _ := reply.(string)
		e, err := parseEntry(text)
		if err != nil {
			return entry{}, err
		}
		if e.nonce == nonce {
			return e, nil
		}
		if e.text == over.text { // it counts for nothing, but may yet
			return entry{}, storage.ErrExists
		}
		holder, err := s.User(ctx, e.user)
		switch {
		case err == nil && holder.Name == name:
			return entry{}, storage.ErrExists
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return entry{}, err
		}
		over = e
	}
}

// settle gives a name back that was reserved, unless the user has it after all:
// a write whose answer was lost may have been followed by another's.
func (s *Store) settle(ctx context.Context, name string, e entry) {
	ctx, cancel := uncanceled(ctx)
	defer cancel()
	u, err := s.User(ctx, e.user)
	if errors.Is(err, storage.ErrNotFound) || err == nil && u.Name != name {
		s.release(ctx, name, e)
	}
}

// release gives a name back. If that fails the entry counts for nothing, and
// is taken over when somebody wants it.
func (s *Store) release(ctx context.Context, name string, e entry) {
	ctx, cancel := uncanceled(ctx)
	defer cancel()
	err := s.do(ctx, write{script: releaseScript, keys: s.nameKeys(name), args: []any{name, e.text}, repeat: harmless})
	if err != nil {
		s.log.Info("a user name was not released now; whoever asks for it takes it over", "error", err)
	}
}

// uncanceled is for tidying up: a caller that has gone does not end it, the
// time limit of what is tidied up after does.
func uncanceled(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline() // every operation that tidies up has one
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// User implements [storage.Users].
func (s *Store) User(ctx context.Context, id storage.UserID) (storage.User, error) {
	return one(ctx, s, s.userKey(id), decodeUser)
}

// UserByName implements [storage.Users].
func (s *Store) UserByName(ctx context.Context, name string) (storage.User, error) {
	e, err := s.entry(ctx, name)
	if err != nil {
		return storage.User{}, err
	}
	u, err := s.User(ctx, e.user)
	if err == nil && u.Name != name {
		return storage.User{}, storage.ErrNotFound
	}
	return u, err
}

// CreateUser implements [storage.Users].
func (s *Store) CreateUser(ctx context.Context, u storage.User) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // for all trips together
	defer cancel()
	version, err := s.firstVersion()
	if err != nil {
		return err
	}
	value, err := encodeVersioned(version, nameText(u.Name), u)
	if err != nil {
		return err
	}
	e, err := s.reserve(ctx, u.Name, u.ID)
	if err != nil {
		return err
	}
	err = s.do(ctx, write{script: createScript, keys: []string{s.userKey(u.ID)}, args: []any{value, "", "", e.fence()}, repeat: marked, again: 2, lasting: true})
	if err != nil && !errors.Is(err, storage.ErrUnknown) {
		s.settle(ctx, u.Name, e)
	}
	return err
}

// UpdateUser implements [storage.Users].
func (s *Store) UpdateUser(ctx context.Context, u storage.User) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit(disk)) // for all trips together
	defer cancel()
	value, err := encodeVersioned(u.Version+1, nameText(u.Name), u)
	if err != nil {
		return err
	}
	replace := func(name, fence string) error {
		return s.do(ctx, write{script: replaceScript, keys: []string{s.userKey(u.ID)}, repeat: marked, again: 2, lasting: true, ends: true,
			args: []any{versionText(u.Version), value, "", name, fence}})
	}
	if err := replace(nameText(u.Name), ""); !errors.Is(err, errRenamed) {
		return err
	}
	before, err := s.User(ctx, u.ID)
	if err != nil {
		return err
	}
	if before.Version != u.Version {
		return storage.ErrConflict
	}
	// Read now: once the account has the new name, another may give it this one
	// back, and has an entry of its own for that.
	old, oldErr := s.entry(ctx, before.Name)
	e, err := s.reserve(ctx, u.Name, u.ID)
	if err != nil {
		return err
	}
	switch err := replace("", e.fence()); {
	case errors.Is(err, storage.ErrUnknown):
		return err
	case err != nil:
		s.settle(ctx, u.Name, e)
		return err
	}
	if oldErr == nil && old.user == u.ID {
		s.release(ctx, before.Name, old)
	}
	return nil
}

// RemoveUser implements [storage.Users].
func (s *Store) RemoveUser(ctx context.Context, id storage.UserID) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit(disk)) // for all trips together
	defer cancel()
	u, err := s.User(ctx, id)
	if err != nil {
		return err
	}
	// The account first: without it all else counts for nothing.
	if err := s.do(ctx, write{script: removeScript, keys: []string{s.userKey(id)}, args: []any{"", ""}, repeat: marked, again: 1, lasting: true, ends: true}); err != nil {
		return err
	}
	// A script of two keys, of which one never was, would wait while its slot
	// moves, and an end must not.
	if err := s.RemoveCase(ctx, id); err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	members, err := s.members(ctx, id, 's')
	if err != nil {
		return err
	}
	for part := range slices.Chunk(members, 500) {
		drop := write{script: dropScript, keys: []string{s.indexKey(id)}, repeat: harmless, lasting: true}
		for _, m := range part {
			drop.keys = append(drop.keys, s.sessionKey(storage.SessionID(string(id)+m[1:])))
			drop.args = append(drop.args, m)
		}
		if err := s.do(ctx, drop); err != nil {
			return err
		}
	}
	if e, err := s.entry(ctx, u.Name); err == nil && e.user == id {
		s.release(ctx, u.Name, e)
	}
	return nil
}

// ListUsers implements [storage.Users]. It asks every bucket for the names
// that follow and takes the first of all.
func (s *Store) ListUsers(ctx context.Context, p storage.Page) ([]storage.User, error) {
	all := []storage.User{}
	for {
		wanted := p.Limit - len(all)
		var found [buckets]*redis.StringSliceCmd
		err := s.read(ctx, func(pipe redis.Pipeliner) {
			for b := range found {
				found[b] = pipe.ZRangeByLex(ctx, s.namesKey(b), &redis.ZRangeBy{Min: lexAfter(p.After), Max: "+", Count: int64(wanted)})
			}
		})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, f := range found {
			names = append(names, f.Val()...)
		}
		slices.Sort(names)
		names = names[:min(len(names), wanted)]
		if len(names) == 0 {
			return all, nil
		}
		users, err := s.usersByName(ctx, names)
		if err != nil {
			return nil, err
		}
		if all = append(all, users...); len(all) == p.Limit {
			return all, nil
		}
		p.After = names[len(names)-1]
	}
}

// usersByName returns the users who have these names, in the same order.
func (s *Store) usersByName(ctx context.Context, names []string) ([]storage.User, error) {
	entries := make([]*redis.StringCmd, len(names))
	err := s.read(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			entries[i] = p.HGet(ctx, s.nameKeys(name)[0], name)
		}
	})
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(names))
	for _, text := range entries {
		if text.Val() == "" {
			continue
		}
		e, err := parseEntry(text.Val())
		if err != nil {
			return nil, err
		}
		keys = append(keys, s.userKey(e.user))
	}
	values, err := s.get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var users []storage.User
	for _, v := range values {
		if v == "" {
			continue
		}
		u, err := decodeUser(v)
		if err != nil {
			return nil, err
		}
		if slices.Contains(names, u.Name) {
			users = append(users, u)
		}
	}
	slices.SortFunc(users, func(a, b storage.User) int { return cmp.Compare(a.Name, b.Name) })
	// An account that is renamed just now is found by both its names.
	return slices.CompactFunc(users, func(a, b storage.User) bool { return a.Name == b.Name }), nil
}
