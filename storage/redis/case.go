package redis

import (
	"context"

	"github.com/solegate/solegate/storage"
)

func decodeCase(b string) (c storage.Case, err error) {
	c.Version, err = decodeVersioned("case", b, &c)
	return c, err
}

// Case implements [storage.Cases].
func (s *Store) Case(ctx context.Context, u storage.UserID) (storage.Case, error) {
	return one(ctx, s, s.caseKey(u), decodeCase)
}

// PutCase implements [storage.Cases].
func (s *Store) PutCase(ctx context.Context, c storage.Case) error {
	if err := c.Bounded(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // for both trips together
	defer cancel()
	read, next := "", c.Version+1
	if c.Version > 0 {
		read = versionText(c.Version)
	} else {
		var err error
		if next, err = s.firstVersion(); err != nil {
			return err
		}
	}
	value, err := encodeVersioned(next, "", c)
	if err != nil {
		return err
	}
	lives := life(c.UpdatedAt, c.Expires)
	// Longer than the case, whose life begins later.
	if err := s.do(ctx, write{script: enlistScript, keys: []string{s.casesKey(), s.casesUntilKey()}, args: []any{string(c.User), lives + slack.Milliseconds()}, repeat: harmless, lasting: true}); err != nil {
		return err
	}
	return s.do(ctx, write{script: caseScript, keys: []string{s.caseKey(c.User)}, args: []any{read, value, lives, ""}, repeat: marked, again: 3, lasting: true})
}

// RemoveCase implements [storage.Cases]. The user stays in the order of cases:
// another may be putting a new case just now.
func (s *Store) RemoveCase(ctx context.Context, u storage.UserID) error {
	return s.do(ctx, write{script: removeScript, keys: []string{s.caseKey(u)}, args: []any{"", ""}, repeat: marked, again: 1, lasting: true})
}

// ListCases implements [storage.Cases].
func (s *Store) ListCases(ctx context.Context, p storage.Page) ([]storage.Case, error) {
	return list(ctx, s, s.casesKey(), s.caseKey, decodeCase, p)
}
