package verify

import "github.com/solegate/solegate/keys/verify/feed"

// RevokeForTest puts events into the set that a Verifier follows, as if they
// had come by its feed.
func RevokeForTest(v *Verifier, events []feed.Event) {
	v.feed.set.add(events, func(feed.Event) uint32 { return 1 << 31 })
}
