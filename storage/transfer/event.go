package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/solegate/solegate/storage"
)

// eachEvent visits the events of s that somebody can need at now, in their
// order, a page at a time. What is there twice is visited once.
func eachEvent(ctx context.Context, s storage.Store, now time.Time, visit func([]storage.Event) error) error {
	visited := map[string]bool{}
	for after := storage.Cursor(""); ; {
		list, next, err := s.Events(ctx, after, page)
		if err != nil || len(list) == 0 {
			return err
		}
		after = next
		alive := make([]storage.Event, 0, len(list))
		for _, e := range list {
			if now.Before(e.Until) && !visited[e.ID] {
				visited[e.ID] = true
				e.Cursor = ""
				alive = append(alive, e)
			}
		}
		if len(alive) > 0 {
			if err := visit(alive); err != nil {
				return err
			}
		}
	}
}

// eventIndex knows which events a store has. It is read when it is first asked.
type eventIndex struct {
	read   bool
	events map[[sha256.Size]byte]bool
}

// missing returns those of the list that are not in s exactly so.
func (x *eventIndex) missing(ctx context.Context, s storage.Store, list []storage.Event) ([]storage.Event, error) {
	if !x.read {
		x.events = map[[sha256.Size]byte]bool{}
		if err := eachEvent(ctx, s, time.Time{}, func(list []storage.Event) error {
			for _, e := range list {
				digest, err := digestOf(e)
				if err != nil {
					return err
				}
				x.events[digest] = true
			}
			return nil
		}); err != nil {
			return nil, err
		}
		x.read = true
	}
	var missing []storage.Event
	for _, e := range list {
		digest, err := digestOf(e)
		if err != nil {
			return nil, err
		}
		if !x.events[digest] {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// again makes the index read the store once more.
func (x *eventIndex) again() { x.read = false }

func digestOf(e storage.Event) ([sha256.Size]byte, error) {
	e.NotBefore, e.Until = e.NotBefore.UTC(), e.Until.UTC()
	text, err := json.Marshal(e) // the cursor is not in it
	return sha256.Sum256(text), err
}
