package redis

import "github.com/redis/go-redis/v9"

// AddHook lets tests count what goes over the wire.
func (s *Store) AddHook(h redis.Hook) { s.client.AddHook(h) }

// AddNodeHook lets tests stand between the store and each server of a cluster.
func (s *Store) AddNodeHook(h redis.Hook) {
	s.spread.OnNewNode(func(node *redis.Client) { node.AddHook(h) })
	s.nodes.Range(func(_, node any) bool {
		node.(*redis.Client).AddHook(h)
		return true
	})
}

// NameKey is where it is kept who has a name.
func (s *Store) NameKey(name string) string { return s.nameKeys(name)[0] }
