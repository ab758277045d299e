package verify

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// second in the table's terms.
const second = int64(time.Second)

func TestBucketRefillsEvenly(t *testing.T) {
	b, r, c := newBuckets(1000), rate{cost: 2 * second, capacity: 10 * second}, &crowd{}
	for _, x := range []struct {
		at      int64 // in tenths of a second
		ok      bool
		backlog int64
	}{
		{0, true, 20}, {0, true, 40}, {0, true, 60}, {0, true, 80}, {0, true, 100}, // five at once
		{0, false, 100}, {19, false, 81}, {20, true, 100}, {20, false, 100}, // then one in two seconds
		{59, true, 81}, {300, true, 20}, // and after a rest five again
	} {
		backlog, ok := b.take(7, x.at*second/10, r, c)
		if ok != x.ok || backlog != x.backlog*second/10 {
			t.Errorf("after %d tenths: %v, %d; %v, %d expected", x.at, ok, backlog*10/second, x.ok, x.backlog)
		}
	}
}

// TestBucketIsExact to the nanosecond, and is never filled by what is heard of
// other replicas.
func TestBucketIsExact(t *testing.T) {
	b, r, c := newBuckets(1000), rate{cost: 2 * second, capacity: 2 * second}, &crowd{}
	take := func(at int64) bool {
		_, ok := b.take(7, at, r, c)
		return ok
	}
	if !take(0) || take(2*second-1) || !take(2*second) {
		t.Error("the second request passes too early or too late")
	}
	b.raise(7, 2*second, second)
	if take(4*second - 1) {
		t.Error("a replica with less to say freed an account")
	}
	b.raise(7, 2*second, 3*second)
	if take(5*second-1) || !take(5*second) {
		t.Error("a replica with more to say did not count")
	}
}

func TestKeyBetweenReplicas(t *testing.T) {
	key := func(by By, name, audience, subject, client string) [32]byte {
		l := &limit{Limit: Limit{Name: name, By: by}}
		return l.sharedKey(audience, &Token{Subject: subject, ClientID: client})
	}
	for by, same := range map[By][2]bool{BySubject: {false, true}, ByClient: {true, false}, BySubjectAndClient: {false, false}} {
		one := key(by, "n", "a", "alice", "spa")
		if one != key(by, "n", "a", "alice", "spa") || one == key(by, "m", "a", "alice", "spa") || one == key(by, "n", "b", "alice", "spa") || one == key(by, "na", "", "alice", "spa") {
			t.Errorf("by %d: the key does not say which limit's it is", by)
		}
		if (one == key(by, "n", "a", "bob", "spa")) != same[0] || (one == key(by, "n", "a", "alice", "cli")) != same[1] {
			t.Errorf("by %d: the key does not say whose it is", by)
		}
	}
	if key(BySubject, "n", "a", "x", "") == key(ByClient, "n", "a", "", "x") {
		t.Error("a subject is taken for a client")
	}
}

// TestNoMoreThanTheLimitPasses: fifty at once, on one account and on many,
// while the clock goes on.
func TestNoMoreThanTheLimitPasses(t *testing.T) {
	const racers, each, accounts = 50, 400, 7
	b, r, c := newBuckets(1000), rate{cost: second / 10, capacity: 100 * second / 10}, &crowd{}
	var now atomic.Int64
	run := func() *[accounts]atomic.Int64 {
		var passed [accounts]atomic.Int64
		var group sync.WaitGroup
		for g := range racers {
			group.Go(func() {
				for i := range each {
					account := (g + i) % accounts
					if _, ok := b.take(uint64(account)<<32|1, now.Load(), r, c); ok {
						passed[account].Add(1)
					}
				}
			})
		}
		group.Wait()
		return &passed
	}
	for round, want := range []int64{100, 0, 30, 100} {
		passed := run()
		for account := range passed {
			if got := passed[account].Load(); got != want {
				t.Errorf("round %d: %d passed for account %d, %d expected", round, got, account, want)
			}
		}
		now.Add([]int64{0, 3, 60, 0}[round] * second)
	}
}

// TestBucketsAreAsInAModel holds the table to a plain map that forgets
// nothing: that the table forgets buckets that are full again must not show.
func TestBucketsAreAsInAModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b, c := newBuckets(20_000), &crowd{}
	rates := []rate{{second, 5 * second}, {second / 50, second}, {60 * second, 60 * second}}
	model := map[uint64]int64{}
	now := int64(0)
	for i := range 400_000 {
		if random.IntN(100) == 0 {
			now += random.Int64N(second / 4)
		}
		if i%100_000 == 99_999 {
			now += 100 * second // all are full again
		}
		account := random.IntN(12_000)
		key := maphash.Comparable(modelSeed, account)
		r := rates[account%len(rates)]
		backlog, ok := b.take(key, now, r, c)
		full := model[key]
		want, wantOK := r.take(&full, now)
		model[key] = full
		if ok != wantOK || backlog != want {
			t.Fatalf("request %d: %v, %d; %v, %d expected", i, ok, backlog, wantOK, want)
		}
	}
	if s := b.stats(); s.Crowded > 0 || s.Limited == 0 || s.Passed+s.Limited != 400_000 {
		t.Errorf("%+v", s)
	}
}

var modelSeed = maphash.MakeSeed()

// size is how many slots there are.
func (b *buckets) size() (n int) {
	for i := range b.shards {
		n += len(b.shards[i].slots)
	}
	return n
}

// TestFloodOfIdentitiesFreesNobody: a million accounts that were never seen
// come, each leaving a bucket that is not full again for an hour.
func TestFloodOfIdentitiesFreesNobody(t *testing.T) {
	const accounts, limited, flood = 10_000, 1000, 1_000_000
	b, c := newBuckets(accounts), &crowd{}
	hour := rate{3600 * second, 3600 * second}
	key := func(i int) uint64 { return maphash.Comparable(modelSeed, i) }
	for i := range limited {
		if _, ok := b.take(key(i), 0, hour, c); !ok {
			t.Fatalf("account %d is limited at its first request", i)
		}
	}
	small := b.size()
	passed := 0
	for i := range flood {
		now := int64(i) * second / 1000 // a thousand a second
		if _, ok := b.take(key(limited+i), now, hour, c); ok {
			passed++
		}
		if victim := i % limited; i%97 == 0 {
			if _, ok := b.take(key(victim), now, hour, c); ok {
				t.Fatalf("the flood freed account %d", victim)
			}
		}
	}
	if most := 4 * accounts; b.size() > most || b.size() <= small {
		t.Errorf("there are %d slots, %d at most are expected and more than %d", b.size(), most, small)
	}
	places := b.stats().Buckets - limited
	if passed < places+overflows*9/10 || passed > places+overflows {
		t.Errorf("%d of the flood passed: each of %d places and %d shared ones once expected", passed, places, overflows)
	}
	if s := b.stats(); s.Crowded == 0 || s.Buckets > b.size()*3/4 {
		t.Errorf("%+v", s)
	}
	// When all are full again, there is place for others, and less of it.
	later := int64(flood/1000+3600) * second
	for i := range accounts {
		if _, ok := b.take(key(-1-i), later, hour, c); !ok {
			t.Fatalf("account %d finds no place after the flood", i)
		}
	}
	if s := b.stats(); s.Buckets > b.size()*3/4 {
		t.Errorf("%+v", s)
	}
}

func TestTableShrinks(t *testing.T) {
	b, c, r := newBuckets(1_000_000), &crowd{}, rate{second, second}
	for i := range 200_000 {
		b.take(maphash.Comparable(modelSeed, i), 0, r, c)
	}
	large := b.size()
	for i := range 2_000_000 { // few of them at the same time
		b.take(maphash.Comparable(modelSeed, -i), int64(i+1)*second/1000, r, c)
	}
	if b.size() > large/2 {
		t.Errorf("%d slots for 1000 accounts at a time, after %d for 200000", b.size(), large)
	}
}
