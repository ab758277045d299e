package password

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// What a password generator makes is never refused.
func TestEffortOfRandomPasswords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, alphabet := range []string{"abcdefghijklmnopqrstuvwxyz", "0123456789abcdef", "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789", "0123456789"} {
		for range 2000 {
			b := make([]byte, MinCharacters)
			for i := range b {
				b[i] = alphabet[r.IntN(len(alphabet))]
			}
			if got := effort(string(b), nil); got < MinCharacters/2 {
				t.Errorf("%s: %d pieces", b, got)
			}
		}
	}
}

func TestEffort(t *testing.T) {
	for secret, want := range map[string]int{
		"":                      0,
		"x":                     1,
		"xk":                    2,
		"password":              1,
		"p4ssw0rd":              1,
		"pass word":             2, // what stands between is free
		"xpasswordk":            3,
		"aaaaaaaa":              1,
		"9012345":               1, // 0 comes after 9
		"a1b2c3d4":              2,
		"q1w2e3r4":              2,
		"qwertyuiop":            1,
		"1qaz2wsx":              2,
		"47157117":              8, // not at, is, it, it
		"!@#$%^&*":              1, // with shift
		"kmv!kmv!kmv!":          6, // four, and the same twice
		"1984":                  1,
		"3984":                  4,
		strings.Repeat("xk", 9): 2,
	} {
		if got := effort(secret, nil); got != want {
			t.Errorf("%q: %d pieces, %d expected", secret, got, want)
		}
	}
}

func BenchmarkEffortLongest(b *testing.B) {
	secret := strings.Repeat("ab1", MaxBytes/3)
	for b.Loop() {
		effort(secret, []string{"alice"})
	}
}
