package password_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/solegate/solegate/authz/login/password"
)

var quick = password.Params{Memory: 64, Time: 1, Threads: 1, Concurrent: 2, Queue: 2}

func hasher(t testing.TB, p password.Params) *password.Hasher {
	t.Helper()
	h, err := password.New(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	h := hasher(t, quick)
	ctx := t.Context()
	encoded, err := h.Hash(ctx, "Ünïcödé pässword with ﬃ")
	if err != nil || !strings.HasPrefix(encoded, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Fatalf("%q, %v", encoded, err)
	}
	again, _ := h.Hash(ctx, "Ünïcödé pässword with ﬃ")
	if again == encoded {
		t.Error("two hashes of a password are the same: the salt is not random")
	}
	for secret, want := range map[string]bool{
		"Ünïcödé pässword with ﬃ":       true,
		"U\u0308nïcödé pässword with ﬃ": true, // the same, typed otherwise
		"ünïcödé pässword with ﬃ":       false,
		"":                              false,
		strings.Repeat("x", 2000):       false,
		"\xff":                          false,
		"Ünïcödé pässword with ﬃ\x00and something": false,
	} {
		if ok, rehash, err := h.Verify(ctx, secret, encoded); ok != want || rehash || err != nil {
			t.Errorf("%.30q: %t %t %v", secret, ok, rehash, err)
		}
	}
	if ok, _, err := h.Verify(ctx, "anything", ""); ok || err != nil {
		t.Errorf("no account: %t, %v", ok, err)
	}
	dearer := quick
	dearer.Time = 2
	if ok, rehash, err := hasher(t, dearer).Verify(ctx, "Ünïcödé pässword with ﬃ", encoded); !ok || !rehash || err != nil {
		t.Errorf("with other parameters: %t %t %v", ok, rehash, err)
	}
	if _, err := h.Hash(ctx, "a\x00b"); !errors.Is(err, password.ErrPassword) {
		t.Errorf("a NUL: %v", err)
	}
}

func TestHashingIsBounded(t *testing.T) {
	h := hasher(t, password.Params{Memory: 8192, Time: 4, Threads: 1, Concurrent: 1, Queue: 1})
	outcomes := make(chan error, 20)
	var wg sync.WaitGroup
	for range cap(outcomes) {
		wg.Go(func() {
			_, err := h.Hash(context.Background(), "a password that is long")
			outcomes <- err
		})
	}
	wg.Wait()
	close(outcomes)
	busy := 0
	for err := range outcomes {
		if errors.Is(err, password.ErrBusy) {
			busy++
		} else if err != nil {
			t.Error(err)
		}
	}
	if busy == 0 || busy > 18 {
		t.Errorf("%d of 20 were turned away", busy)
	}
}

func TestDamagedHashes(t *testing.T) {
	h := hasher(t, quick)
	for _, encoded := range []string{
		"x", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=4294967295,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAA",
	} {
		if ok, _, err := h.Verify(t.Context(), "x", encoded); ok || err == nil || !strings.Contains(err.Error(), "set the password again") {
			t.Errorf("%q: %t, %v", encoded, ok, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for secret, want := range map[string]bool{
		"seven green otters sing at dusk":     true,
		"gibt es hier noch ein Käsebrot?":     true,
		"kX9!vQ2#mZ7&pL4":                     true,
		"каждый охотник желает знать":         true,
		"my dog eats purple shoes":            true,
		"the cat sat on my router":            true,
		"ocean lamp trumpet":                  true,
		"tj4-kqm-92x-wpz":                     true,
		"Regenschirm im Kühlschrank":          true,
		"short":                               false,
		"fourteen chars":                      false,
		"passwordpassword":                    false,
		"Password123456789":                   false,
		"P@ssw0rdP@ssw0rd":                    false,
		"P@ssword123!@#$":                     false,
		"P4$$w0rd12345678":                    false,
		"Password2026!!!!":                    false,
		"aaaaaaaaaaaaaaaaaaaa":                false,
		"abcabcabcabcabcabcabc":               false,
		"1234567890123456789":                 false,
		"0123456789abcdef":                    false,
		"0987654321qwerty":                    false,
		"12345678987654321":                   false,
		"13579246801357924680":                false,
		"11223344556677889900":                false,
		"1111222233334444":                    false,
		"147258369147258":                     false,
		"abcdefghijklmnopqrstuvwxyz":          false,
		"abcdefgh12345678":                    false,
		"a1b2c3d4e5f6g7h8":                    false,
		"aabbccddeeffgghh":                    false,
		"qwertyuiopasdfghjklzxcvbnm":          false,
		"poiuytrewqlkjhgfdsa":                 false,
		"qwertzuiopü+asdf":                    false,
		"azertyuiopqsdfghjklm":                false,
		"q1w2e3r4t5y6u7i8":                    false,
		"1q2w3e4r5t6y7u8i":                    false,
		"1qaz2wsx3edc4rfv":                    false,
		"zaq12wsxcde34rfv":                    false,
		"qazwsxedcrfvtgb":                     false,
		"123qweasdzxc1234":                    false,
		"!@#$%^&*()_+1234":                    false,
		"correct horse battery staple":        false,
		"correcthorsebatterystaple":           false,
		"alice.wonderland1":                   false,
		"4lice-w0nderland":                    false,
		"iloveyouiloveyou1":                   false,
		"ilovemyfamily123":                    false,
		"jesuschrist12345":                    false,
		"thisismypassword":                    false,
		"manchesterunited":                    false,
		"maytheforcebewithyou":                false,
		"hello my name is":                    false,
		"five six seven eight":                false,
		"november 24 2026":                    false,
		"deadbeefdeadbeef":                    false,
		"solegatesolegate":                    false,
		"with a control \x07 character":       false,
		strings.Repeat("long and fine ", 100): false,
	} {
		err := password.Check(secret, "alice.wonderland", "alice@example.com")
		if (err == nil) != want {
			t.Errorf("%.40q: %v", secret, err)
		}
		if _, ok := errors.AsType[*password.Weak](err); err != nil && !ok {
			t.Errorf("%.40q: %T", secret, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	h := hasher(f, quick)
	encoded, err := h.Hash(f.Context(), "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("x", encoded)
	f.Fuzz(func(t *testing.T, secret, encoded string) {
		if strings.Contains(encoded, "m=") && !strings.Contains(encoded, "m=64,t=1") {
			return // dear parameters are right, but slow
		}
		h.Verify(t.Context(), secret, encoded)
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("seven green otters", "alice")
	f.Fuzz(func(t *testing.T, secret, name string) { password.Check(secret, name) })
}
