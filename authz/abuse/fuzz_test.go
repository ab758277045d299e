package abuse

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// FuzzDecide: whatever is reported, in whatever order, a case is within its
// bounds, and the policy is never harsher for what fewer resource servers say or
// what was dismissed.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{1, 200, 0, 3, 2, 200, 10, 3, 1, 9, 70, 0})
	f.Add([]byte{0, 255, 0, 0, 3, 255, 0, 7, 4, 255, 255, 7, 9, 1, 1, 1, 8, 1, 1, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		rules := []Rule{
			{Name: "tell", Count: 3, Within: time.Minute, Action: Tell},
			{Name: "slow", Kind: reports.Limit, Count: 50, Within: time.Hour, ResourceServers: 2, Action: Throttle, Every: time.Minute, For: 10 * time.Minute},
			{Name: "login", Reason: "scraping", Count: 20, Within: 10 * time.Minute, ResourceServers: 2, Action: Login},
			{Name: "short", Count: 100, Within: time.Hour, ResourceServers: 2, Action: Suspend, For: time.Hour},
			{Name: "long", Kind: reports.Judgement, Count: 500, Within: 24 * time.Hour, ResourceServers: 3, Action: Suspend},
		}
		// all hears everybody; one hears a single resource server of them.
		all, one := newWorld(t, rules...), newWorld(t, rules...)
		firstOfAll, firstOfOne := time.Time{}, time.Time{}
		for steps = steps[:min(len(steps), 400)]; len(steps) >= 4; {
			who, n, gap, how := steps[0], steps[1], steps[2], steps[3]
			steps = steps[4:]
			for _, w := range []*world{all, one} {
				w.after(time.Duration(gap) * 7 * time.Second)
				w.room = how&8 == 0
				w.policy.DryRun = how&16 != 0
			}
			if who > 250 {
				for _, w := range []*world{all, one} {
					w.c = w.policy.dismissed(w.c, "root", "", w.now)
					w.user.Block, w.user.Throttle = nil, nil
					w.want(w.incoming(nil)) // nothing that was reported counts
				}
				firstOfAll, firstOfOne = time.Time{}, time.Time{}
				continue
			}
			from := clients.ID([]string{"a", "b", "c", "d"}[who%4])
			r := all.report(int(n) + 1)
			if how&1 != 0 {
				r.Kind = reports.Judgement
			}
			if how&2 != 0 {
				r.Reason = "scraping"
			}
			if how&4 != 0 {
				r.First, r.Last = r.First.Add(-time.Duration(n)*time.Minute), r.Last.Add(time.Duration(who)*time.Second)
			}
			if len(all.send(from, r)) > 0 && firstOfAll.IsZero() {
				firstOfAll = all.now
			}
			if from == "a" {
				for _, what := range one.send(from, r) {
					if what != "tell tell" {
						t.Errorf("a single resource server suffices for %q", what)
					}
					if firstOfOne.IsZero() {
						firstOfOne = one.now
					}
				}
			}
			if !firstOfOne.IsZero() && (firstOfAll.IsZero() || firstOfAll.After(firstOfOne)) {
				t.Error("it is decided sooner for what fewer say")
			}
			for _, w := range []*world{all, one} {
				within(t, w)
			}
		}
	})
}

// within checks a case's bounds and what must hold at any time.
func within(t *testing.T, w *world) {
	t.Helper()
	c := w.c
	if err := c.Bounded(); err != nil && !c.UpdatedAt.IsZero() {
		t.Fatal(err)
	}
	for _, x := range c.Tallies {
		if x.Current < 0 || x.Previous < 0 || estimate(x, w.policy.rule(x.Rule).Within, w.now) < 0 {
			t.Fatalf("a tally is below nothing: %+v", x)
		}
	}
	for _, d := range c.Decisions {
		if d.Withheld == Pending {
			t.Fatalf("pending although it was done: %+v", d)
		}
	}
	for _, e := range c.Evidence {
		if e.Count < 1 || len(e.Addresses) > reports.MaxAddresses {
			t.Fatalf("evidence of nothing: %+v", e)
		}
	}
	if !c.UpdatedAt.IsZero() && c.Expires.Before(w.now.Add(w.policy.Keep)) && c.UpdatedAt.Equal(w.now) {
		t.Fatalf("it expires at %s, now is %s", c.Expires, w.now)
	}
	// What is decided does not depend on how the case was stored.
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back storage.Case
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	in := &incoming{from: "z", batch: storage.Hash{255, 255}, reports: []reports.Report{w.report(1000)}}
	a, _ := w.policy.decide(c, &w.user, stands(&w.user, w.now), in, true, w.now)
	b, _ := w.policy.decide(back, &w.user, stands(&w.user, w.now), in, true, w.now)
	same := func(x, y storage.Decision) bool {
		return x.Rule == y.Rule && x.Withheld == y.Withheld && x.At.Equal(y.At)
	}
	if !slices.EqualFunc(a.Decisions, b.Decisions, same) || !reflect.DeepEqual(a.Tallies, b.Tallies) {
		t.Fatalf("stored and read again it decides otherwise:\n%+v\n%+v", a, b)
	}
}
