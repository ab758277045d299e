package redis

import "github.com/redis/go-redis/v9"

// AddHook lets tests count what goes over the wire.
func (s *Store) AddHook(h redis.Hook) { s.client.AddHook(h) }

// NameKey is where it is kept who has a name.
func (s *Store) NameKey(name string) string { return s.nameKeys(name)[0] }
