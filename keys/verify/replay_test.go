package verify

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestMemoryForgetsNothingThatCanBeUsed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var log strings.Builder
	m := newMemory(100, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	once := func(key uint64, seconds int) bool {
		t.Helper()
		var k [32]byte
		binary.BigEndian.PutUint64(k[:], key)
		first, err := m.Once(context.Background(), k, now.Add(time.Duration(seconds)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.used) > 100 || len(m.due) > 100 {
			t.Fatalf("%d proofs in %d seconds are kept, 100 at most are expected", len(m.used), len(m.due))
		}
		return first
	}
	if !once(1, 80) || once(1, 80) || once(1, 90) {
		t.Error("a proof passed twice, or never")
	}
	// What has ended gives room.
	for i := range uint64(1000) {
		now = now.Add(time.Second)
		if !once(100+i, 80) || once(100+i, 80) {
			t.Fatalf("proof %d passed twice, or never", i)
		}
	}
	if log.Len() > 0 {
		t.Errorf("full with 80 proofs: %s", &log)
	}
	// A flood: those that end first are forgotten, and refused for it.
	victim := uint64(5000)
	if !once(victim, 40) {
		t.Fatal("the victim's proof is refused")
	}
	for i := range uint64(1000) {
		if !once(10_000+i, 60+int(i)%30) {
			break // what ends that early is refused by now
		}
	}
	if once(victim, 40) {
		t.Error("a forgotten proof passed again")
	}
	for i := range uint64(1000) {
		once(10_000+i, 60+int(i)%30)
		if once(10_000+i, 60+int(i)%30) {
			t.Fatalf("proof %d of the flood passed twice", i)
		}
	}
	if !once(victim+1, 95) {
		t.Error("a new proof is refused during the flood")
	}
	if n := strings.Count(log.String(), "full"); n != 1 {
		t.Errorf("the log was told %d times, 1 expected", n)
	}
	// After it all is as before.
	now = now.Add(2 * time.Minute)
	if !once(1, 80) || once(1, 80) || len(m.used) != 1 {
		t.Errorf("after the flood %d proofs are kept", len(m.used))
	}
}
