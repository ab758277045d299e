package password

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MinCharacters is the least that a password must have when it is the only
// factor (NIST SP 800-63B-4 §3.1.1.2).
const MinCharacters = 15

// Weak says why a password is refused, in words for the person.
type Weak struct{ Reason string }

// Error returns the reason.
func (w *Weak) Error() string { return w.Reason }

//go:embed common.txt
var commonText string

// common are the parts that common passwords are made of, longest first.
var common = sync.OnceValue(func() []string {
	return strings.Fields(commonText)
})

// Check returns a [*Weak] if the password may not be chosen: it is too short,
// or so common that guessing starts with it. There are no rules about kinds of
// characters, and none about its age (NIST SP 800-63B-4 §3.1.1.2). words are
// what the person is known by, such as the user name and address.
func Check(password string, words ...string) error {
	prepared, err := prepare(password)
	if err != nil {
		return &Weak{fmt.Sprintf("The password has control characters or more than %d bytes: choose another one.", MaxBytes)}
	}
	n := utf8.RuneCountInString(prepared)
	if n < MinCharacters {
		return &Weak{fmt.Sprintf("The password has %d characters, at least %d are needed: a few words in a row are easy to remember.", n, MinCharacters)}
	}
	if rest := remainder(prepared, words); rest < MinCharacters/2 {
		return &Weak{"The password is one that is guessed early: it is made of common words, repetitions, sequences or your name. Choose a few words that don't belong together."}
	}
	return nil
}

// remainder is how many characters of a password are left when everything is
// taken out that a guesser tries first: common passwords and names, each kept
// as one character, and repetitions and sequences, of which the first three
// characters are kept.
func remainder(password string, words []string) int {
	s := strings.Map(func(r rune) rune {
		if plain, ok := leet[r]; ok {
			return plain
		}
		return unicode.ToLower(r)
	}, password)
	for _, w := range words {
		for part := range strings.FieldsFuncSeq(strings.ToLower(w), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(part) >= 4 {
				s = strings.ReplaceAll(s, part, "\x00")
			}
		}
	}
	for _, w := range common() {
		s = strings.ReplaceAll(s, w, "\x00")
	}
	return fresh([]rune(s))
}

// leet are the substitutions that every guesser undoes.
var leet = map[rune]rune{'@': 'a', '4': 'a', '3': 'e', '0': 'o', '$': 's', '5': 's', '7': 't'}

// fresh counts the characters that don't follow from those before: a character
// that continues a run, a step up or down, or a block seen before is free for a
// guesser.
func fresh(s []rune) int {
	n := 0
	for i := 0; i < len(s); {
		// The longest block from here that stands earlier in the password.
		length := 0
		for j := range i {
			k := 0
			for i+k < len(s) && j+k < i && s[j+k] == s[i+k] {
				k++
			}
			length = max(length, k)
		}
		if length >= 3 {
			i += length
			continue
		}
		if i >= 2 && s[i]-s[i-1] == s[i-1]-s[i-2] && s[i]-s[i-1] >= -1 && s[i]-s[i-1] <= 1 {
			i++
			continue
		}
		n++
		i++
	}
	return n
}
