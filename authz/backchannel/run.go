package backchannel

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Run delivers until ctx ends, and then waits for the attempts under way.
func (s *Sender) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	slots := make(chan struct{}, concurrent)
	failing := false
	for {
		if free := concurrent - len(slots); free > 0 { // only this loop fills them
			now := s.Now()
			list, err := s.Store.ClaimLogouts(ctx, now, now.Add(lease), free)
			if err != nil && !failing && ctx.Err() == nil {
				s.Log.Error("logout tokens can't be read from the store; trying again every few seconds", "error", err)
			}
			failing = err != nil
			for _, l := range list {
				slots <- struct{}{}
				work.Go(func() {
					s.attempt(ctx, l)
					<-slots
					s.Queue.notify() // there may be more than there were slots
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Queue.wake:
		case <-tick.C:
		}
	}
}

// attempt tries once to deliver l. If the process dies here, or the store
// can't be written, the claim runs out and another attempt follows.
func (s *Sender) attempt(ctx context.Context, l storage.Logout) {
	// It is finished even if the server stops: it takes seconds.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease/2)
	defer cancel()
	next, err := s.try(ctx, l)
	if err == nil && next.IsZero() {
		err = s.Store.FinishLogout(ctx, l.Client, l.Session)
	} else if err == nil {
		err = s.Store.DeferLogout(ctx, l.Client, l.Session, next)
	}
	if err != nil {
		s.Log.Error("a logout token can't be dealt with now; it is tried again", "client", l.Client, "session", l.Session, "error", err)
	}
}

// try returns when to try again, or the zero time if there is nothing left to
// do.
func (s *Sender) try(ctx context.Context, l storage.Logout) (next time.Time, err error) {
	now := s.Now()
	event := audit.Event{Client: l.Client, User: l.Session.User(), Session: l.Session}
	x, u, err := s.Store.SessionUser(ctx, l.Session)
	switch {
	case err == nil && revocation.SessionLive(x, u, now) == nil:
		// Its end was announced and is not yet written, or never came: then
		// this is asked until the note expires. To remove it would forget an
		// end that is written in this very moment.
		return now.Add(between(now.Sub(l.CreatedAt), time.Second, time.Minute)), nil
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return next, err
	}
	c, err := s.Store.Client(ctx, l.Client)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		c, err = clients.Client{}, nil
	case err != nil:
		return next, err
	}
	if c.BackchannelLogoutURI == "" || c.Disabled || c.Development && !s.Development {
		event.What, event.Reason = "logout given up", "the client is gone or disabled, or wants it no more"
		s.Audit.Record(ctx, event)
		return next, nil
	}
	if until, resting := s.rests(c.BackchannelLogoutURI, now); resting {
		return until, nil
	}
	token, err := s.token(c, l.Session)
	if err != nil {
		return next, err
	}
	status, err := s.deliver(ctx, c.BackchannelLogoutURI, token)
	switch {
	case err == nil && status >= 200 && status < 300:
		event.What = "logout delivered"
		s.Audit.Record(ctx, event)
		return next, nil
	case err == nil && status == http.StatusBadRequest:
		// It was understood and is refused (Back-Channel Logout §2.8): the
		// same token again would be, too.
		event.What, event.Reason = "logout given up", "the client refused it with 400"
		s.Audit.Record(ctx, event)
		return next, nil
	}
	s.rest(c.BackchannelLogoutURI, now)
	age := now.Sub(l.CreatedAt)
	next = now.Add(between(age, 5*time.Second, time.Hour) + s.jitter(between(age, 5*time.Second, time.Hour)/4))
	if !next.Before(l.Expires) {
		event.What, event.Reason = "logout given up", "the client could not be told for a day"
		s.Audit.Record(ctx, event)
		s.Log.Error("a client was not told that a session ended, and is tried no more", "client", l.Client, "session", l.Session, "status", status, "error", err)
		return time.Time{}, nil
	}
	s.Log.Warn("a client could not be told that a session ended", "client", l.Client, "session", l.Session, "status", status, "error", err, "again", next)
	return next, nil
}

func (s *Sender) deliver(ctx context.Context, uri, token string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	return s.post(ctx, uri, token)
}

// between is d, but at least low and at most high. The wait before the next
// attempt is as long as the note is old: it doubles, however often somebody
// looked in between.
func between(d, low, high time.Duration) time.Duration { return min(max(d, low), high) }

// jitter is a random time below d, so that what failed at one moment does not
// come again at one moment.
func (s *Sender) jitter(d time.Duration) time.Duration {
	var b [1]byte
	if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
		return 0
	}
	return d * time.Duration(b[0]) / 256
}

// rests reports whether a receiver is left alone at now, and until when.
func (s *Sender) rests(uri string, now time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.resting[uri]
	if ok && !now.Before(until) {
		delete(s.resting, uri)
		ok = false
	}
	return until, ok
}

func (s *Sender) rest(uri string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting[uri] = now.Add(restFor)
}
