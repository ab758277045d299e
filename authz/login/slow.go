package login

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
)

// A user whom policy slows down gets one login and one grant in each part of
// time: see [storage.Throttle]. Both are counted, because a grant needs no login
// where somebody is signed in, and a login that leads to no grant is one, too.
// Whoever is not slowed down is not counted and costs nothing.

// Grant counts a grant that is about to be made for u. If u had one already it
// returns how long to wait.
func (l *Login) Grant(ctx context.Context, u storage.User) (wait time.Duration, err error) {
	return l.one(ctx, u, "grant", 1)
}

// slow counts a login of u, or returns how long to wait: also if u could log in,
// and no grant would come of it.
func (l *Login) slow(ctx context.Context, u storage.User) (wait time.Duration, err error) {
	if wait, err = l.one(ctx, u, "grant", 0); wait > 0 || err != nil {
		return wait, err
	}
	return l.one(ctx, u, "login", 1)
}

// one adds n to what u had of a kind, and returns how long to wait if that, or
// what there was, is more than one.
func (l *Login) one(ctx context.Context, u storage.User, kind string, n int) (time.Duration, error) {
	now := l.Now()
	if !revocation.Throttled(u, now) {
		return 0, nil
	}
	tally, err := l.Store.Count(ctx, l.throttle.Name("slow "+kind, string(u.ID), u.Throttle.Every), n, now, u.Throttle.Every)
	if err != nil || tally.Current-n < 1 {
		return 0, err
	}
	return max(u.Throttle.Next(now).Sub(now), time.Second), nil
}

// TooSoon shows the page that says when a user who is slowed down may come again.
func (l *Login) TooSoon(w http.ResponseWriter, r *http.Request, u storage.User, wait time.Duration) {
	w.Header().Set("Retry-After", retryAfter(wait))
	l.refused(r, u.ID, "the user is throttled")
	l.fail(w, r, http.StatusTooManyRequests, "Please wait", l.tooSoon(wait)+" Then go back to the application and try again.", nil)
}

// tooSoon is what a person reads who is slowed down.
func (l *Login) tooSoon(wait time.Duration) string {
	return "This account is slowed down because of how it was used. It can be used to sign in again from " + moment(l.Now().Add(wait)) + " on."
}

func retryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
