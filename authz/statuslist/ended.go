package statuslist

import (
	"sync"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// ended is what has ended and may still have tokens. Some 30 bytes a place.
type ended struct {
	mu sync.RWMutex
	// changes counts them all, so that a list never has the same number again.
	changes uint64
	clients map[tag]end
	lists   map[string]*marks // by name
}

// end ends all lists of a client of before an epoch.
type end struct {
	epoch uint64
	until int64 // Unix seconds
}

// marks are the places of a list that have ended.
type marks struct {
	changed uint64 // the number of the last change
	until   map[uint32]int64
}

// Apply takes an event of the store. To take it again, or in another order,
// changes nothing.
func (l *Lists) Apply(e storage.Event) {
	if e.Kind != storage.EventClient && len(e.Status) == 0 {
		return
	}
	until := e.Until.Unix() + 1
	s := &l.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if e.Kind == storage.EventClient {
		of := l.tagOf(clients.ID(e.Subject))
		before := s.clients[of]
		s.clients[of] = end{max(before.epoch, e.Epoch), max(before.until, until)}
	}
	for _, p := range e.Status {
		if p.Index >= Size {
			continue // nothing of ours
		}
		m := s.lists[p.List]
		if m == nil {
			m = &marks{until: map[uint32]int64{}}
			s.lists[p.List] = m
		}
		if _, known := m.until[p.Index]; !known {
			m.changed = s.changes
		}
		m.until[p.Index] = max(m.until[p.Index], until)
	}
}

// Forget forgets what no token can be hit by any more.
func (l *Lists) Forget(now time.Time) {
	past := now.Unix()
	s := &l.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	for of, e := range s.clients {
		if e.until < past {
			delete(s.clients, of)
		}
	}
	for name, m := range s.lists {
		before := len(m.until)
		for index, until := range m.until {
			if until < past {
				delete(m.until, index)
			}
		}
		switch len(m.until) {
		case 0:
			delete(s.lists, name)
		case before:
		default:
			m.changed = s.changes
		}
	}
}

// state is what a list is like: wholly ended, or the number of its last change,
// 0 while all its places are good.
type state struct {
	whole   bool
	changed uint64
}

func (s *ended) state(of list) state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e, ok := s.clients[of.client]; ok && of.epoch < e.epoch {
		return state{whole: true}
	}
	if m := s.lists[of.name]; m != nil {
		return state{changed: m.changed}
	}
	return state{}
}

// bits are the list's, in the order of the draft (§4.1): a place is the bit of
// the number Index%8, the least significant being 0, of the byte Index/8.
func (s *ended) bits(of list) ([]byte, state) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := make([]byte, Size/8)
	m := s.lists[of.name]
	if m == nil {
		return b, state{}
	}
	for index := range m.until {
		b[index/8] |= 1 << (index % 8)
	}
	return b, state{changed: m.changed}
}
