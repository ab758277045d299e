package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/solegate/solegate/authz/throttle"
	"github.com/solegate/solegate/storage"
)

// Limits of guessing passwords: what is counted, and how much of it passes.
//
//	whose                                          in 15 minutes  in a day
//	one account, from browsers unknown to it       10 tries       40 tries
//	one account, from one browser that it knows    10 tries       40 tries
//	one address (IPv6: one /64), unknown browsers  50 failures    500 failures
//
// A browser is known to an account that has signed in there before, and each
// such browser is counted apart: however much others guess, and even with a
// stolen cookie, nobody locks the real person out of the browser that they
// use. A sliding window is estimated, and may let through up to twice its
// limit: the day's keeps an account below the 100 failures of NIST SP
// 800-63B-4 §3.2.2 in any 24 hours. A right password in a browser that the account
// knows is taken back: an API that asks for a login of the last minute (RFC
// 9470) makes people type it often. At an address only failures count, so that
// an office behind one address may sign in all at once.
//
// There is no limit over all accounts: whoever reached it would have locked
// everybody out. What bounds guessing as a whole is how many hashes run at
// once.
var (
	perAccount = []throttle.Limit{{N: 10, Window: 15 * time.Minute}, {N: 40, Window: 24 * time.Hour}}
	perDevice  = []throttle.Limit{{N: 10, Window: 15 * time.Minute}, {N: 40, Window: 24 * time.Hour}}
	perAddress = []throttle.Limit{{N: 50, Window: 15 * time.Minute}, {N: 500, Window: 24 * time.Hour}}
)

func buckets(kind, whose string, limits []throttle.Limit) []throttle.Bucket {
	list := make([]throttle.Bucket, len(limits))
	for i, limit := range limits {
		list[i] = throttle.Bucket{Kind: kind, Whose: whose, Limit: limit}
	}
	return list
}

var errWrong = errors.New("wrong user name or password")

// verify finds the account and compares the password, at the same cost
// whether there is one or not. A wait says that it must not be tried now. The
// error is errWrong, password.ErrBusy, or the store's.
func (l *Login) verify(r *http.Request, name, secret string) (u storage.User, wait time.Duration, err error) {
	ctx := r.Context()
	u, err = l.Store.UserByName(ctx, name)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return storage.User{}, 0, err
	}
	tries, failures := buckets("account", name, perAccount), buckets("address", throttle.Network(l.Address(r)), perAddress)
	d := l.knownDevice(r)
	known := u.ID != "" && d.ID != "" && slices.Contains(d.Users, u.ID)
	if known {
		tries, failures = buckets("device", d.ID+" "+string(u.ID), perDevice), nil
	}
	if wait, err = l.throttle.Allowed(ctx, failures...); err != nil || wait > 0 {
		return storage.User{}, wait, err
	}
	// Counted before the password is looked at: many tries at once all count.
	if wait, err = l.throttle.Try(ctx, tries...); err != nil || wait > 0 {
		return storage.User{}, wait, err
	}
	ok, rehash, err := l.Hasher.Verify(ctx, secret, u.Password)
	if err != nil {
		return storage.User{}, 0, fmt.Errorf("verify the password of user %q: %w", u.ID, err)
	}
	if !ok {
		if err := l.throttle.Count(ctx, failures...); err != nil {
			return storage.User{}, 0, err
		}
		return u, 0, errWrong
	}
	if known {
		if err := l.throttle.TakeBack(ctx, tries...); err != nil {
			l.Log.Warn("a right password counts as a guess", "user", u.ID, "error", err)
		}
	}
	if rehash {
		l.rehash(ctx, u, secret)
	}
	return u, 0, nil
}

// rehash stores the password's hash with today's parameters. If it can't be
// done now, the next login does it.
func (l *Login) rehash(ctx context.Context, u storage.User, secret string) {
	encoded, err := l.Hasher.Hash(ctx, secret)
	if err == nil {
		u.Password = encoded
		err = l.Store.UpdateUser(ctx, u)
	}
	if err != nil {
		l.Log.Warn("a password could not be hashed anew; the next login tries again", "user", u.ID, "error", err)
	}
}
