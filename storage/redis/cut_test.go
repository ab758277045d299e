package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// happened checks that what was asked of the proxy before has happened.
func happened(t *testing.T, cut <-chan struct{}) {
	t.Helper()
	if cut == nil {
		return
	}
	// The client may know a moment before the proxy says so.
	eventually(t, "the connection is cut", func() bool {
		select {
		case <-cut:
			return true
		default:
			return false
		}
	})
}

func TestConnectionCut(t *testing.T) {
	proxy := redistest.NewProxy(t, redistest.Single(t).Addr)
	s := open(t, "redis://"+proxy.Addr)
	ctx := t.Context()
	for name, next := range map[string]func(int, ...string) <-chan struct{}{"Before": proxy.CutBeforeRequest, "After": proxy.CutAfterRequest} {
		t.Run(name, func(t *testing.T) {
			var last <-chan struct{}
			cut := func(what string) {
				t.Helper()
				happened(t, last)
				last = next(1, what)
			}
			id := storage.GrantID(name + ".s.g")
			after := name == "After"
			cut("evalsha")
			check(t, s.CreateGrant(ctx, grant(id))) // it asks again, and knows its own
			want(t, s.CreateGrant(ctx, grant(id)), storage.ErrExists)

			cut("evalsha")
			want(t, s.Redeem(ctx, redemption(id)), storage.ErrUnknown)
			if err := s.Redeem(ctx, redemption(id)); after && !errors.Is(err, storage.ErrReused) || !after && err != nil {
				t.Errorf("redeemed again: %v", err)
			}

			id += "2"
			family(t, s, id)
			cut("evalsha")
			check(t, s.Rotate(ctx, rotation(id, 1)))
			st, err := s.Standing(ctx, id, "spa")
			check(t, err)
			if st.Grant.Generation != 2 {
				t.Errorf("generation %d after one rotation", st.Grant.Generation)
			}
			// The one refresh of who is slowed down is not taken for another.
			slow := rotation(id, 2)
			slow.Keep, slow.OnlyUntil = true, slow.At.Add(time.Minute)
			cut("evalsha")
			check(t, s.Rotate(ctx, slow))
			want(t, s.Rotate(ctx, slow), storage.ErrTooSoon)

			cut("evalsha")
			check(t, s.CreateUser(ctx, storage.User{ID: storage.UserID(name), Name: name}))
			u, err := s.UserByName(ctx, name)
			check(t, err)
			u.Email = "x@example.com"
			cut("evalsha")
			check(t, s.UpdateUser(ctx, u))
			want(t, s.UpdateUser(ctx, u), storage.ErrConflict)
			cut("evalsha")
			check(t, s.RemoveUser(ctx, u.ID))

			// Whoever can't tell its own use from another's does not pass.
			key := [32]byte([]byte(fmt.Sprintf("%-32s", name)))
			cut("evalsha")
			want(t, s.Once(ctx, key, start, start.Add(time.Minute)), storage.ErrUnknown)
			if err := s.Once(ctx, key, start, start.Add(time.Minute)); after != errors.Is(err, storage.ErrExists) || !after && err != nil {
				t.Errorf("once more: %v", err)
			}

			x := storage.SessionID(name + ".s")
			cut("evalsha")
			check(t, s.AddLogouts(ctx, []storage.Logout{logout(x)}))
			cut("evalsha")
			_, err = s.ClaimLogouts(ctx, start, start.Add(time.Minute), 10)
			want(t, err, storage.ErrUnknown)
			// If it was claimed, it comes again when its time has come.
			for at, n := range map[time.Duration]int{time.Second: 0, time.Minute: 1} {
				if at == time.Second && !after {
					continue
				}
				list, err := s.ClaimLogouts(ctx, start.Add(at), start.Add(2*time.Minute), 10)
				check(t, err)
				if len(list) != n {
					t.Errorf("%d are claimed after %s, %d expected", len(list), at, n)
				}
			}
			cut("evalsha")
			check(t, s.DeferLogout(ctx, "spa", x, start))
			cut("evalsha")
			check(t, s.FinishLogout(ctx, "spa", x))
			if list, err := s.ClaimLogouts(ctx, start.Add(time.Hour), start.Add(2*time.Hour), 10); err != nil || len(list) != 0 {
				t.Errorf("after it was sent: %v, %v", list, err)
			}

			cut("evalsha")
			check(t, s.AppendEvents(ctx, []storage.Event{event(name + "a"), event(name + "b")}, start))
			all, end := follow(t, s, "")
			// Whoever can't tell appends again: twice says nothing new.
			times := 1
			if after {
				times = 2
			}
			if got := strings.Count(strings.Join(all, " "), name+"a "+name+"b"); got != times {
				t.Errorf("the events are there %d times, %d expected: %v", got, times, all)
			}
			cut("xrange")
			if got, next := follow(t, s, ""); len(got) != len(all) || next != end {
				t.Errorf("read again: %v", got)
			}
			cut("xread")
			waiting := await(t, s, end)
			check(t, s.AppendEvents(ctx, []storage.Event{event(name)}, start))
			check(t, <-waiting)

			cut("get")
			if _, err := s.Standing(ctx, id, "spa"); err != nil {
				t.Errorf("a read was not repeated: %v", err)
			}
			happened(t, last)
		})
	}
}
