package storagetest_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

// reads are the methods that have no faults. A method that storage.Store gains
// belongs here, or in faults.go.
var reads = []string{
	"Client", "ListClients", "ResourceServer", "ListResourceServers", "User", "UserByName", "ListUsers",
	"SessionUser", "ListSessions", "Standing", "ListGrants", "KeyRing", "Ready", "Close", "Check",
	"Logout", "EachLogout", "Events", "AwaitEvents", "Case", "ListCases", "AuditHead", "AuditLines",
}

func TestEveryWriteHasFaults(t *testing.T) {
	store := reflect.TypeFor[storage.Store]()
	for i := range store.NumMethod() {
		name := store.Method(i).Name
		if slices.Contains(reads, name) {
			continue
		}
		asked := ""
		faulty := storagetest.WithFaults(nothing{}, func(write string) storagetest.Outcome {
			asked = write
			return storagetest.Outcome{Fail: true}
		})
		method := reflect.ValueOf(faulty).MethodByName(name)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for n := 1; n < method.Type().NumIn(); n++ {
			args = append(args, reflect.Zero(method.Type().In(n)))
		}
		func() {
			defer func() {
				if recover() != nil { // of nothing
					t.Errorf("%s passes its fault by", name)
				}
			}()
			results := method.Call(args)
			if err, _ := results[len(results)-1].Interface().(error); !errors.Is(err, storage.ErrUnavailable) || asked != name {
				t.Errorf("%s: asked for the fault of %q, and answered %v", name, asked, err)
			}
		}()
	}
}

// nothing panics whatever is called.
type nothing struct{ storage.Store }

func TestFaults(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var outcome storagetest.Outcome
	faulty := storagetest.WithFaults(s, func(string) storagetest.Outcome { return outcome })
	create := func(ctx context.Context, id storage.UserID) (happened bool, err error) {
		err = faulty.CreateUser(ctx, storage.User{ID: id, Name: string(id)})
		_, missing := s.User(t.Context(), id)
		return missing == nil, err
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		id       storage.UserID
		ctx      context.Context
		outcome  storagetest.Outcome
		want     error
		happened bool
	}{
		{"plain", t.Context(), storagetest.Outcome{}, nil, true},
		{"failed", t.Context(), storagetest.Outcome{Fail: true}, storage.ErrUnavailable, false},
		{"lost", t.Context(), storagetest.Outcome{Lose: true}, storage.ErrUnknown, true},
		{"slow", t.Context(), storagetest.Outcome{Before: time.Millisecond, After: time.Millisecond}, nil, true},
		{"cancelled before", cancelled, storagetest.Outcome{Before: time.Hour}, storage.ErrUnavailable, false},
	} {
		outcome = c.outcome
		if happened, err := create(c.ctx, c.id); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || happened != c.happened {
			t.Errorf("%s: happened: %v, answered %v; want %v, %v", c.id, happened, err, c.happened, c.want)
		}
	}
	// A refusal is the truth, whatever gets lost.
	outcome = storagetest.Outcome{Lose: true}
	if _, err := create(t.Context(), "plain"); !errors.Is(err, storage.ErrExists) {
		t.Errorf("a refusal came as %v", err)
	}
}

// TestFaultsHappenOrNot: a write that fails has changed nothing, one whose
// answer is lost has.
func TestFaultsHappenOrNot(t *testing.T) {
	ctx := t.Context()
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	l := storage.Logout{Client: "spa", Session: "u.s", CreatedAt: start, DueAt: start, Expires: start.Add(time.Hour)}
	read := func(s storage.Store) storage.Logout {
		l, _ := s.Logout(ctx, "spa", "u.s")
		return l
	}
	for name, c := range map[string]struct {
		prepare  []storage.Logout
		write    func(storage.Store) error
		happened func(storage.Store) bool
	}{
		"Once": {nil, func(s storage.Store) error { return s.Once(ctx, [32]byte{1}, start, start.Add(time.Minute)) },
			func(s storage.Store) bool {
				return errors.Is(s.Once(ctx, [32]byte{1}, start, start.Add(time.Minute)), storage.ErrExists)
			}},
		"AppendEvents": {nil, func(s storage.Store) error { return s.AppendEvents(ctx, []storage.Event{{ID: "e"}}, start) },
			func(s storage.Store) bool { list, _, _ := s.Events(ctx, "", 1); return len(list) == 1 }},
		"AppendAudit": {nil, func(s storage.Store) error {
			l := storage.AuditLine{Seq: 1, Body: []byte("x")}
			l.Link = l.LinkAfter(storage.AuditHead{})
			return s.AppendAudit(ctx, storage.AuditHead{}, []storage.AuditLine{l})
		}, func(s storage.Store) bool { head, _ := s.AuditHead(ctx); return head.Seq == 1 }},
		"AddLogouts": {nil, func(s storage.Store) error { return s.AddLogouts(ctx, []storage.Logout{l}) },
			func(s storage.Store) bool { return read(s) == l }},
		"ClaimLogouts": {[]storage.Logout{l}, func(s storage.Store) error {
			list, err := s.ClaimLogouts(ctx, start, start.Add(time.Minute), 1)
			if err != nil && list != nil {
				t.Errorf("claimed with an error: %v", list)
			}
			return err
		}, func(s storage.Store) bool { return read(s).Attempts == 1 }},
		"DeferLogout": {[]storage.Logout{l}, func(s storage.Store) error { return s.DeferLogout(ctx, "spa", "u.s", start.Add(time.Second)) },
			func(s storage.Store) bool { return !read(s).DueAt.Equal(start) }},
		"FinishLogout": {[]storage.Logout{l}, func(s storage.Store) error { return s.FinishLogout(ctx, "spa", "u.s") },
			func(s storage.Store) bool { return read(s) == storage.Logout{} }},
	} {
		for _, o := range []storagetest.Outcome{{Fail: true}, {Lose: true}} {
			s, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.AddLogouts(ctx, c.prepare); err != nil {
				t.Fatal(err)
			}
			want := storage.ErrUnavailable
			if o.Lose {
				want = storage.ErrUnknown
			}
			err = c.write(storagetest.WithFaults(s, func(write string) storagetest.Outcome {
				if write != name {
					t.Errorf("%s asked for the fault of %s", name, write)
				}
				return o
			}))
			if !errors.Is(err, want) || c.happened(s) != o.Lose {
				t.Errorf("%s with %+v: %v, happened: %v", name, o, err, !o.Lose)
			}
			s.Close()
		}
	}
}
