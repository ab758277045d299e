package verify

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
)

// revoked is what the feed named and what may still have tokens. Entries are
// keyed by 16 bytes of a hash with a seed of this process's own, so that nobody
// can choose a name that hits somebody else's. Some 60 bytes an entry.
type revoked struct {
	seed [16]byte

	// version goes up by one for each change of what is refused. What was
	// checked against it and passed need not be looked up again until it
	// changes, and then only if it is of one of the changes since.
	version atomic.Uint64
	recent  recent
	changed func([]mark) // is told what changed, afterwards; nil for nobody

	count  atomic.Int64
	all    atomic.Int64 // tokens issued at or before it are refused: Unix seconds, 0 for none
	shards [revokedShards]revokedShard
}

const revokedShards = 64

type revokedShard struct {
	mu      sync.RWMutex
	endings map[mark]ending
	most    int // how many there were since the map was made: a map doesn't shrink
}

// mark stands for a kind and a subject.
type mark [16]byte

// everybody is the mark of a change that is about all tokens: no hash is zero.
var everybody mark

// recent are the marks of the last changes. A token that passed is compared
// with these few, and not looked for among all: that is six places of a large
// memory.
type recent struct {
	mu    sync.RWMutex // guards what follows
	last  uint64       // version after the last change
	marks [recentMarks]mark
}

const recentMarks = 64

// add takes note of changes and returns the version after them.
func (r *recent) add(marks []mark) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range marks {
		r.last++
		r.marks[r.last%recentMarks] = m
	}
	return r.last
}

// concern reports whether one of the changes after one version up to another
// may be about a token.
func (r *recent) concern(t *marks, after, upTo uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t == nil || upTo < after || r.last-after > recentMarks {
		return true // nobody knows any more
	}
	for v := after + 1; v <= upTo; v++ {
		switch r.marks[v%recentMarks] {
		case everybody, t.user, t.client, t.session, t.grant, t.token, t.key:
			return true
		}
	}
	return false
}

// ending is what is known of one.
type ending struct {
	epoch uint64 // of a user or a client: the first that is good again
	// Until both have passed it is kept: a clock that is set can't make it
	// forgotten early.
	due   uint32 // on the follower's own clock, seconds
	until uint32 // Unix seconds
}

// newRevoked returns an empty set.
func newRevoked() *revoked {
	s := &revoked{}
	rand.Read(s.seed[:])
	for i := range s.shards {
		s.shards[i].endings = map[mark]ending{}
	}
	s.recent.last = 1 // 0 is of what was never checked
	s.version.Store(1)
	return s
}

// mark returns the mark of a kind and a subject.
func (s *revoked) mark(kind feed.Kind, subject string) mark {
	// The SHA-256 of a secret and a text is as good as a MAC once it is cut
	// short. Kinds have no zero byte in them, so no two pairs are one text.
	buf := make([]byte, 0, 256)
	buf = append(buf, s.seed[:]...)
	buf = append(buf, kind...)
	buf = append(buf, 0)
	buf = append(buf, subject...)
	sum := sha256.Sum256(buf)
	return mark(sum[:16])
}

func (s *revoked) shard(m mark) *revokedShard { return &s.shards[m[0]%revokedShards] }

// add takes events of known kinds; due is when the follower's own clock, in
// seconds, says that the last token of one has expired. Nothing that was known
// is weakened: events may come again, and in any order.
func (s *revoked) add(events []feed.Event, due func(feed.Event) uint32) {
	var changed []mark
	for _, e := range events {
		if e.Kind == feed.All {
			for {
				before := s.all.Load()
				if before >= e.NotBefore.Unix() {
					break
				}
				if s.all.CompareAndSwap(before, e.NotBefore.Unix()) {
					changed = append(changed, everybody)
					break
				}
			}
			continue
		}
		m := s.mark(e.Kind, e.Subject)
		fresh := ending{due: due(e), until: uint32(min(e.Until.Unix(), math.MaxUint32))}
		if e.Kind == feed.User || e.Kind == feed.Client {
			fresh.epoch = e.Epoch
		}
		shard := s.shard(m)
		shard.mu.Lock()
		old, known := shard.endings[m]
		shard.endings[m] = ending{max(old.epoch, fresh.epoch), max(old.due, fresh.due), max(old.until, fresh.until)}
		shard.most = max(shard.most, len(shard.endings))
		shard.mu.Unlock()
		if !known {
			s.count.Add(1)
		}
		if !known || fresh.epoch > old.epoch {
			changed = append(changed, m)
		}
	}
	if len(changed) == 0 {
		return
	}
	s.version.Store(s.recent.add(changed)) // last: whoever sees it sees all of them
	if s.changed != nil {
		s.changed(changed)
	}
}

// sweep drops the endings of one shard whose time is over on both clocks.
func (s *revoked) sweep(shard int, due uint32, wall time.Time) {
	sh := &s.shards[shard%revokedShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := len(sh.endings)
	for m, e := range sh.endings {
		if e.due < due && int64(e.until) < wall.Unix() && e.until != math.MaxUint32 {
			delete(sh.endings, m)
		}
	}
	s.count.Add(int64(len(sh.endings) - before))
	if sh.most > 1024 && len(sh.endings) < sh.most/4 {
		smaller := make(map[mark]ending, len(sh.endings))
		for m, e := range sh.endings {
			smaller[m] = e
		}
		sh.endings, sh.most = smaller, len(smaller)
	}
}

func (s *revoked) find(m mark) (ending, bool) {
	shard := s.shard(m)
	shard.mu.RLock()
	e, ok := shard.endings[m]
	shard.mu.RUnlock()
	return e, ok
}

// marks are those of all that a token belongs to.
type marks struct{ user, client, session, grant, token, key mark }

// list returns all.
func (m *marks) list() [6]mark {
	return [...]mark{m.user, m.client, m.session, m.grant, m.token, m.key}
}

func (s *revoked) marks(t *Token) *marks {
	return &marks{
		user: s.mark(feed.User, t.Subject), client: s.mark(feed.Client, t.ClientID), session: s.mark(feed.Session, t.SessionID),
		grant: s.mark(feed.Grant, t.GrantID), token: s.mark(feed.Token, t.ID), key: s.mark(feed.Key, t.keyID),
	}
}

// names says which event refuses the token, or "". A token in the cache keeps
// its marks.
func (s *revoked) names(e *entry) string {
	t := e.token
	// By whole seconds, so that an event ends what was issued in its second.
	if all := s.all.Load(); all != 0 && t.IssuedAt.Unix() <= all {
		return fmt.Sprintf("all tokens issued until %s were revoked", time.Unix(all, 0).UTC().Format(time.RFC3339))
	}
	if s.count.Load() == 0 {
		return ""
	}
	m := e.marks.Load()
	if m == nil {
		m = s.marks(t)
		e.marks.Store(m)
	}
	if end, ok := s.find(m.user); ok && t.UserEpoch < end.epoch {
		return fmt.Sprintf("the tokens of user %.100q were revoked: this one is of epoch %d, %d is expected", t.Subject, t.UserEpoch, end.epoch)
	}
	if end, ok := s.find(m.client); ok && t.ClientEpoch < end.epoch {
		return fmt.Sprintf("the tokens of client %.100q were revoked: this one is of epoch %d, %d is expected", t.ClientID, t.ClientEpoch, end.epoch)
	}
	for _, one := range []struct {
		mark mark
		kind feed.Kind
		name string
	}{
		{m.session, feed.Session, t.SessionID}, {m.grant, feed.Grant, t.GrantID}, {m.token, feed.Token, t.ID}, {m.key, feed.Key, t.keyID},
	} {
		if _, ok := s.find(one.mark); ok {
			return fmt.Sprintf("the %s %.100q was revoked", one.kind, one.name)
		}
	}
	return ""
}
