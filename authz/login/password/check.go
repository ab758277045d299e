package password

import (
	"fmt"
	"unicode/utf8"
)

// MinCharacters is the least that a password must have when it is the only
// factor (NIST SP 800-63B-4 §3.1.1.2).
const MinCharacters = 15

// Weak says why a password is refused, in words for the person.
type Weak struct{ Reason string }

// Error returns the reason.
func (w *Weak) Error() string { return w.Reason }

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
	if effort(prepared, words) < MinCharacters/2 {
		return &Weak{"The password is one that is guessed early: it is made of common words, repetitions, sequences or your name. Choose a few words that don't belong together."}
	}
	return nil
}
