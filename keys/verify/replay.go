package verify

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Replays remembers which proofs were used (RFC 9449 §11.1). One that all
// replicas share makes a proof good once in all of them.
type Replays interface {
	// Once records key and reports whether it comes for the first time. Of
	// several calls with one key at the same moment, in all replicas, one
	// reports true. After until the key may be forgotten, not before: an
	// implementation that has no room reports an error, or false. After an
	// error the request is refused with 503.
	Once(ctx context.Context, key [32]byte, until time.Time) (first bool, err error)
}

// maxReplays bounds the memory: some 20 MB, or 3000 requests a second with
// proofs that are remembered for 80 seconds. Those of one nonce end at one time,
// so with nonces it is 2000 a second, and above that there is no shorter life to
// fall back on: the whole nonce is refused.
const maxReplays = 1 << 18

// memory is Replays within one process. When it is full it forgets the proofs
// that expire first, and from then on refuses all that expire as early as
// they. So nothing that was forgotten can be used again; under a flood proofs
// merely live shorter, which clients that make theirs for the request don't
// notice.
type memory struct {
	max int
	now func() time.Time
	log *slog.Logger

	mu    sync.Mutex // guards what follows; all times are Unix seconds
	used  map[[32]byte]struct{}
	due   map[int64][][32]byte // what is in used, by the second of its end
	swept int64                // when what had ended was last forgotten
	floor int64                // what ends at or before it was forgotten early, and is refused
	told  int64                // when the log was last told that it is full
}

func newMemory(size int, now func() time.Time, log *slog.Logger) *memory {
	return &memory{max: size, now: now, log: log, used: map[[32]byte]struct{}{}, due: map[int64][][32]byte{}}
}

// Once implements Replays.
func (m *memory) Once(_ context.Context, key [32]byte, until time.Time) (bool, error) {
	now := m.now().Unix()
	end := until.Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now != m.swept {
		m.forget(now - 1) // not what ends in this very second
		m.swept = now
	}
	if _, ok := m.used[key]; ok {
		return false, nil
	}
	if len(m.used) >= m.max {
		first := end
		for s := range m.due {
			first = min(first, s)
		}
		m.forget(first)
		m.floor = max(m.floor, first)
		if now-m.told >= 60 {
			m.told = now
			m.log.Warn("the memory of used DPoP proofs is full: proofs are accepted for a shorter time; give Config.Replays a larger one", "seconds", first-now)
		}
	}
	if end <= m.floor {
		return false, nil
	}
	m.used[key] = struct{}{}
	m.due[end] = append(m.due[end], key)
	return true, nil
}

// forget forgets what ends at or before a second. mu is held.
func (m *memory) forget(second int64) {
	for s, keys := range m.due {
		if s > second {
			continue
		}
		for _, key := range keys {
			delete(m.used, key)
		}
		delete(m.due, s)
	}
}
