package revocation_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// user reads alice.
func (w *world) user() storage.User {
	w.t.Helper()
	u, err := w.store.User(w.t.Context(), "u")
	check(w.t, err)
	return u
}

// audited is how many audit lines say what.
func (w *world) audited(what string) int { return strings.Count(w.log.String(), `msg="`+what+`"`) }

// once calls do before the next write of that name.
func (w *world) once(write string, do func()) {
	done := false
	w.fault = func(now string) storagetest.Outcome {
		if now == write && !done {
			done = true
			do()
		}
		return storagetest.Outcome{}
	}
}

// lose loses the answer of the next write of that name.
func (w *world) lose(write string) {
	done := false
	w.fault = func(now string) storagetest.Outcome {
		lose := now == write && !done
		done = done || lose
		return storagetest.Outcome{Lose: lose}
	}
}

// TestSuspendUser: it is a block that says which rule set it, and everything
// ends.
func TestSuspendUser(t *testing.T) {
	w := newWorld(t)
	until := start.Add(time.Hour)
	check(t, w.revoker.SuspendUser(t.Context(), "u", "flood", "120 reports", until))
	u := w.user()
	if b := u.Block; b == nil || *b != (storage.Block{Rule: "flood", Reason: "120 reports", At: start, Until: until}) || u.Epoch != 4 {
		t.Errorf("the user is %+v, blocked by %+v", u, u.Block)
	}
	if !revocation.Suspended(u, start) || !revocation.Blocked(u, start) || revocation.Suspended(u, until) || revocation.Blocked(u, until) {
		t.Error("it does not last from now until then")
	}
	if w.audited("user suspended") != 1 || !strings.Contains(w.log.String(), "rule=flood") {
		t.Errorf("the audit log says %s", w.log.String())
	}
	if err := w.revoker.SuspendUser(t.Context(), "nobody", "flood", "", until); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	for name, err := range map[string]error{
		"suspend":  w.revoker.SuspendUser(t.Context(), "u", "", "", time.Time{}),
		"throttle": w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Every: time.Minute}),
		"login":    w.revoker.DemandLogin(t.Context(), "u", "", ""),
		"never":    w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "flood"}),
		"slowly":   w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "flood", Every: storage.MaxEvery + 1}),
	} {
		if err == nil {
			t.Errorf("%s: no rule, or no time, is accepted", name)
		}
	}
}

// TestSuspensionNeverGivesWay: a rule replaces nothing that an operator set and
// nothing that lasts as long.
func TestSuspensionNeverGivesWay(t *testing.T) {
	hour, day, forever := start.Add(time.Hour), start.Add(24*time.Hour), time.Time{}
	for _, test := range []struct {
		name     string
		old      *storage.Block
		until    time.Time
		replaced bool
	}{
		{"none", nil, hour, true},
		{"over", &storage.Block{Rule: "old", Until: start}, hour, true},
		{"by hand, over", &storage.Block{Until: start}, hour, true},
		{"shorter", &storage.Block{Rule: "old", Until: hour}, day, true},
		{"shorter than for ever", &storage.Block{Rule: "old", Until: hour}, forever, true},
		{"as long", &storage.Block{Rule: "old", Until: hour}, hour, false},
		{"longer", &storage.Block{Rule: "old", Until: day}, hour, false},
		{"for ever", &storage.Block{Rule: "old"}, day, false},
		{"both for ever", &storage.Block{Rule: "old"}, forever, false},
		{"by hand", &storage.Block{Until: hour}, forever, false},
		{"by hand for ever", &storage.Block{}, hour, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				w := newWorld(t)
				set := func() {
					u := w.user()
					u.Block = test.old
					check(t, w.store.UpdateUser(t.Context(), u))
				}
				if late { // another replica, or an operator, between our reading and our writing
					w.once("UpdateUser", set)
				} else {
					set()
				}
				check(t, w.revoker.SuspendUser(t.Context(), "u", "new", "", test.until))
				b := w.user().Block
				if replaced := b != nil && b.Rule == "new"; replaced != test.replaced {
					t.Errorf("late %t: the block is %+v", late, b)
				}
				if w.audited("user suspended") == 1 != test.replaced {
					t.Errorf("late %t: the audit log says %s", late, w.log.String())
				}
				if !late && !test.replaced && (len(w.events()) > 0 || w.user().Epoch != 3) {
					t.Errorf("what was left as it is was announced: %+v", w.events())
				}
			}
		})
	}
}

// TestOperatorReplacesSuspension: what is done by hand counts.
func TestOperatorReplacesSuspension(t *testing.T) {
	w := newWorld(t)
	check(t, w.revoker.SuspendUser(t.Context(), "u", "flood", "", time.Time{}))
	check(t, w.revoker.BlockUser(t.Context(), "u", "by hand", start.Add(time.Hour)))
	if b := w.user().Block; b.Rule != "" || b.Reason != "by hand" || revocation.Suspended(w.user(), start) {
		t.Errorf("the block is %+v", b)
	}
	check(t, w.revoker.Lift(t.Context(), "u", "a rule's"))
	if w.user().Block == nil || w.audited("user suspension lifted") != 0 {
		t.Error("Lift lifts a block by hand")
	}
	check(t, w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "flood", Every: time.Minute}))
	check(t, w.revoker.UnblockUser(t.Context(), "u"))
	if u := w.user(); u.Block != nil || u.Throttle != nil {
		t.Errorf("after UnblockUser the user is %+v", u)
	}
}

// TestThrottleUser: it ends nothing, and grows only.
func TestThrottleUser(t *testing.T) {
	w := newWorld(t)
	hour, day := start.Add(time.Hour), start.Add(24*time.Hour)
	for _, step := range []struct {
		give, want storage.Throttle
		audited    int
	}{
		{storage.Throttle{Rule: "a", Until: hour, Every: time.Minute}, storage.Throttle{Rule: "a", Until: hour, Every: time.Minute}, 1},
		{storage.Throttle{Rule: "b", Until: hour, Every: time.Second}, storage.Throttle{Rule: "a", Until: hour, Every: time.Minute}, 1},
		{storage.Throttle{Rule: "c", Until: day, Every: time.Second}, storage.Throttle{Rule: "c", Until: day, Every: time.Minute}, 2},
		{storage.Throttle{Rule: "d", Until: hour, Every: time.Hour}, storage.Throttle{Rule: "d", Until: day, Every: time.Hour}, 3},
		{storage.Throttle{Rule: "e", Every: time.Second}, storage.Throttle{Rule: "e", Every: time.Hour}, 4},
		{storage.Throttle{Rule: "f", Until: day, Every: time.Second}, storage.Throttle{Rule: "e", Every: time.Hour}, 4},
	} {
		step.want.At = start
		check(t, w.revoker.ThrottleUser(t.Context(), "u", step.give))
		if got := w.user().Throttle; got == nil || *got != step.want {
			t.Errorf("after %+v it is %+v", step.give, got)
		}
		if got := w.audited("user throttled"); got != step.audited {
			t.Errorf("after %+v there are %d audit lines, %d expected", step.give, got, step.audited)
		}
	}
	u := w.user()
	if u.Epoch != 3 || len(w.events()) > 0 || !revocation.Throttled(u, start.Add(1000*time.Hour)) {
		t.Errorf("the user is %+v", u)
	}
	u.Throttle.Until = start
	check(t, w.store.UpdateUser(t.Context(), u))
	if revocation.Throttled(u, start) {
		t.Error("a throttle does not end")
	}
	check(t, w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "g", Until: day, Every: time.Second}))
	if got := w.user().Throttle; got.Every != time.Second || got.Rule != "g" {
		t.Errorf("one that is over counts still: %+v", got)
	}
}

// TestLift ends what rules did, and says so once.
func TestLift(t *testing.T) {
	w := newWorld(t)
	check(t, w.revoker.Lift(t.Context(), "u", "nothing in it"))
	check(t, w.revoker.SuspendUser(t.Context(), "u", "flood", "", time.Time{}))
	check(t, w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "slow", Every: time.Minute}))
	before := len(w.events())
	check(t, w.revoker.Lift(t.Context(), "u", "nothing in it"))
	check(t, w.revoker.Lift(t.Context(), "u", "nothing in it"))
	if u := w.user(); u.Block != nil || u.Throttle != nil || u.Epoch != 4 || len(w.events()) != before {
		t.Errorf("the user is %+v", u)
	}
	if w.audited("user suspension lifted") != 1 || !strings.Contains(w.log.String(), `rule=flood reason="nothing in it"`) {
		t.Errorf("the audit log says %s", w.log.String())
	}
	// An operator blocks between reading and writing.
	check(t, w.revoker.SuspendUser(t.Context(), "u", "flood", "", time.Time{}))
	w.once("UpdateUser", func() {
		u := w.user()
		u.Block = &storage.Block{Reason: "by hand"}
		check(t, w.store.UpdateUser(t.Context(), u))
	})
	check(t, w.revoker.Lift(t.Context(), "u", ""))
	if b := w.user().Block; b == nil || b.Reason != "by hand" {
		t.Errorf("the operator's block became %+v", b)
	}
	if err := w.revoker.Lift(t.Context(), "nobody", ""); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestLostAnswers: what a rule did is written down although the answer of the
// store was lost, and only once.
func TestLostAnswers(t *testing.T) {
	w := newWorld(t)
	w.lose("UpdateUser")
	check(t, w.revoker.SuspendUser(t.Context(), "u", "flood", "", start.Add(time.Hour)))
	w.lose("UpdateUser")
	check(t, w.revoker.ThrottleUser(t.Context(), "u", storage.Throttle{Rule: "slow", Every: time.Minute}))
	w.lose("UpdateUser")
	check(t, w.revoker.Lift(t.Context(), "u", ""))
	for _, what := range []string{"user suspended", "user throttled", "user suspension lifted"} {
		if n := w.audited(what); n != 1 {
			t.Errorf("%d lines say %q", n, what)
		}
	}
	if u := w.user(); u.Block != nil || u.Throttle != nil {
		t.Errorf("the user is %+v", u)
	}
	w.fault = func(write string) storagetest.Outcome { return storagetest.Outcome{Lose: write == "UpdateUser"} }
	if err := w.revoker.SuspendUser(t.Context(), "u", "flood", "", start.Add(time.Hour)); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("a store whose answers are all lost: %v", err)
	}
}

// TestReplicasSuspendAtOnce: of many rules at many servers the longest counts,
// but for the operator.
func TestReplicasSuspendAtOnce(t *testing.T) {
	for _, operator := range []bool{false, true} {
		w := newWorld(t)
		var work sync.WaitGroup
		errs := make(chan error, 9)
		for i := range 8 {
			work.Go(func() {
				errs <- w.revoker.SuspendUser(t.Context(), "u", "flood", "", start.Add(time.Duration(i+1)*time.Hour))
			})
		}
		if operator {
			work.Go(func() { errs <- w.revoker.BlockUser(t.Context(), "u", "by hand", start.Add(time.Minute)) })
		}
		work.Wait()
		close(errs)
		for err := range errs {
			check(t, err)
		}
		b := w.user().Block
		if operator && b.Rule != "" || !operator && !b.Until.Equal(start.Add(8*time.Hour)) {
			t.Errorf("operator %t: the block is %+v", operator, b)
		}
	}
}
