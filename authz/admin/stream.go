package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// stream is an answer that goes on: it sends until it returns, at the latest
// when the sender's context has ended.
type stream func(*sender) error

// maxStreams is how many streams there may be at once, and streamEvery how often
// one on which nothing happens says so, and it is looked up whether the operator
// still may.
const (
	maxStreams  = 32
	streamEvery = 2 * time.Second
	sendTimeout = 10 * time.Second
)

// sender sends the events of a stream.
type sender struct {
	ctx context.Context
	w   http.ResponseWriter
	mu  sync.Mutex // of w
}

// send sends an event, or a comment. Whoever does not read gets no more.
func (s *sender) send(event string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := http.NewResponseController(s.w)
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := io.WriteString(s.w, event+"\n"); err != nil {
		return err
	}
	return c.Flush()
}

// streams bounds the streams, and ends them.
type streams struct {
	turns chan struct{}
	end   chan struct{}
	once  sync.Once
}

func newStreams() streams {
	return streams{turns: make(chan struct{}, maxStreams), end: make(chan struct{})}
}

// EndStreams ends all streams, which would go on for ever, and lets no other
// begin.
func (a *API) EndStreams() { a.streams.once.Do(func() { close(a.streams.end) }) }

// serveStream answers with a stream.
func (a *API) serveStream(w http.ResponseWriter, r *http.Request, o Operator, do stream) {
	select {
	case a.streams.turns <- struct{}{}:
		defer func() { <-a.streams.turns }()
	default:
		a.refuse(w, r, o.Name, refusef(http.StatusServiceUnavailable, "There are too many streams.", "%d streams", maxStreams))
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	s := &sender{ctx: ctx, w: w}
	w.Header().Set("Content-Type", "text/event-stream")
	var err error
	if err = s.send(":"); err != nil { // the headers, and that it has begun
		return
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(streamEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.streams.end:
				cancel(errEnding)
				return
			case <-tick.C:
			}
			err := s.send(":")
			if err == nil && o.Still != nil {
				err = o.Still(ctx)
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	})
	if err = do(s); ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(err)
	watch.Wait()
	a.Log.LogAttrs(r.Context(), slog.LevelInfo, "operator's stream ended",
		slog.String("operator", o.Name), slog.String("path", r.URL.Path), slog.String("cause", err.Error()), slog.String("request", a.RequestID(r)))
}

var errEnding = errors.New("the server is ending")
