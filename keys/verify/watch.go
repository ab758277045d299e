package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Watch returns a context for what goes on after a request was let in: a
// WebSocket, an event stream. It ends when ctx does, when the token of ctx
// expires, and, with Config.Feed, as soon as a request with that token would be
// refused: when something ends the token, and when the feed is stale and
// [Feed].WhenStale says so. [context.Cause] is then the [*Error] that says why.
//
//	ctx, stop := v.Watch(r.Context())
//	defer stop()
//	context.AfterFunc(ctx, func() { conn.Close() })
//
// ctx is a request's, behind Require; or one of [NewContext], where the token
// came of VerifyRequest. Watch panics for another. The context must be stopped
// when what it is for has ended, as each that can be canceled.
//
// Nothing is polled: an event finds by itself whom it ends, so that 10,000 open
// WebSockets cost no more than one. Each takes about a kilobyte.
func (v *Verifier) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	p, _ := ctx.Value(contextKey{}).(passed)
	t := p.token
	if t == nil {
		panic("verify: Watch belongs behind Require: there is no token")
	}
	ctx, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(t.Expires.Sub(v.config.Now()), func() { end(refuse("the token expired at %s", t.Expires.UTC().Format(time.RFC3339))) })
	leave := func() { timer.Stop() }
	if v.feed != nil {
		_, token, _ := strings.Cut(p.authorization, " ")
		w := &watched{entry: entry{token: t}, token: token, end: end}
		leave = func() {
			timer.Stop()
			v.feed.watchers.remove(w)
		}
		v.feed.watch(w)
	}
	context.AfterFunc(ctx, leave) // also when nobody stops it
	return ctx, func() {
		leave()
		end(context.Canceled)
	}
}

// watched is a token that something goes on with.
type watched struct {
	entry
	token string // as it was sent; "" if that is not known
	end   context.CancelCauseFunc
	links [6]link // one for each mark
	in    bool    // guarded by watchers.mu
}

// watchers are those who watch, by all that can end them.
type watchers struct {
	ended atomic.Uint64 // by finish

	mu  sync.Mutex // guards what follows
	by  map[mark]*link
	all map[*watched]bool
}

// link is a place in the list of those with one mark.
type link struct {
	of           *watched
	before, next *link
}

func newWatchers() *watchers {
	return &watchers{by: map[mark]*link{}, all: map[*watched]bool{}}
}

func (o *watchers) add(w *watched) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[w], w.in = true, true
	for i, m := range w.marks.Load().list() {
		l := &w.links[i]
		l.of, l.next = w, o.by[m]
		if l.next != nil {
			l.next.before = l
		}
		o.by[m] = l
	}
}

// remove removes one, and reports whether it was still there.
func (o *watchers) remove(w *watched) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !w.in {
		return false
	}
	delete(o.all, w)
	w.in = false
	for i, m := range w.marks.Load().list() {
		l := &w.links[i]
		if l.next != nil {
			l.next.before = l.before
		}
		switch {
		case l.before != nil:
			l.before.next = l.next
		case l.next != nil:
			o.by[m] = l.next
		default:
			delete(o.by, m)
		}
	}
	return true
}

// with returns those who have one of the marks; some may be there twice.
func (o *watchers) with(marks []mark) (list []*watched) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		if m == everybody {
			return o.everybody()
		}
		for l := o.by[m]; l != nil; l = l.next {
			list = append(list, l.of)
		}
	}
	return list
}

// everybody returns all. mu is held.
func (o *watchers) everybody() []*watched {
	list := make([]*watched, 0, len(o.all))
	for w := range o.all {
		list = append(list, w)
	}
	return list
}

// list returns all.
func (o *watchers) list() []*watched {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.everybody()
}

// finish ends one who is still there, for a reason.
func (o *watchers) finish(w *watched, why error) {
	if o.remove(w) {
		o.ended.Add(1)
		w.end(why)
	}
}

// stats counts those who watch, and those who were ended.
func (o *watchers) stats() (watched int, ended uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all), o.ended.Load()
}

// watch adds one who watches. Whoever comes is there before the set is looked
// at, and an event is in the set before it looks for whom it ends: it can't be
// missed by both.
func (f *follower) watch(w *watched) {
	w.marks.Store(f.set.marks(w.entry.token))
	f.watchers.add(w)
	f.look(w)
	if f.stale.Load() {
		f.outdated(w)
	}
}

// look ends one whom the set names.
func (f *follower) look(w *watched) {
	if why := f.set.names(&w.entry); why != "" {
		f.watchers.finish(w, revokedError(errors.New("the feed says: "+why)))
	}
}

// touched looks at those that a change of the set may end.
func (f *follower) touched(marks []mark) {
	for _, w := range f.watchers.with(marks) {
		f.look(w)
	}
}

// outdated ends one if that is what happens to a token while the feed is stale.
// Those that can be asked about are asked about, see question.
func (f *follower) outdated(w *watched) {
	if f.policy == Refuse || f.policy == Introspect && w.token == "" {
		f.watchers.finish(w, unchecked(f.ready()))
	}
}

// Bounds of what is asked about those who watch.
const (
	questionEvery  = time.Second
	questionersMax = 8
)

// questions asks the issuer about all who watch while the feed is stale, until
// ctx ends: not more than a few at a time, and each once a second at most.
func (f *follower) questions(ctx context.Context) {
	ticker := time.NewTicker(questionEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !f.stale.Load() {
			continue
		}
		slots := make(chan struct{}, questionersMax)
		for _, w := range f.watchers.list() {
			slots <- struct{}{}
			go func() {
				f.question(ctx, w)
				<-slots
			}()
		}
		for range questionersMax {
			slots <- struct{}{}
		}
	}
}

// question ends one whose token the issuer does not call active.
func (f *follower) question(ctx context.Context, w *watched) {
	switch active, err := f.asked.active(ctx, sha256.Sum256([]byte(w.token)), w.token); {
	case ctx.Err() != nil || !f.stale.Load():
	case err != nil:
		f.watchers.finish(w, unchecked(err))
	case !active:
		f.watchers.finish(w, revokedError(errors.New("introspection says that it is not active")))
	}
}
