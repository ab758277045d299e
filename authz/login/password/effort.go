package password

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
)

//go:embed common.txt
var commonText string

// common are the words that guessing starts with, by their first letter.
var common = sync.OnceValue(func() map[rune][][]rune {
	words := map[rune][][]rune{}
	for line := range strings.Lines(commonText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, w := range strings.Fields(line) {
			runes := []rune(w)
			words[runes[0]] = append(words[runes[0]], runes)
		}
	}
	return words
})

// effort is how many pieces a guesser puts the password together from, at
// least. A piece is a common word or one of own (letters replaced by look-alike
// digits included), a sequence or repetition of characters, a path over the
// keyboard, a year, what stood in the password before, or any one character.
// What stands between words is free.
func effort(password string, own []string) int {
	s := []rune(strings.ToLower(password))
	words := common()
	if len(own) > 0 {
		words = withOwn(words, own)
	}
	least := make([]int, len(s)+1) // effort of s[:i]
	for i := range least {
		least[i] = i
	}
	before := repeats(s)
	for i, r := range s {
		// The pieces that begin at i: each may also be cut short.
		reach := func(length, cost int) { least[i+length] = min(least[i+length], least[i]+cost) }
		if strings.ContainsRune(" -_.,", r) {
			reach(1, 0)
		}
		reach(1, 1)
		for _, first := range []rune{r, plain[r]} {
			for _, w := range words[first] {
				if beginsWith(s[i:], w) {
					reach(len(w), 1)
				}
			}
		}
		for stride := 1; stride <= 2; stride++ {
			for n := 3 * stride; n <= sequence(s[i:], stride); n++ {
				reach(n, stride)
			}
			for n := 4 * stride; n <= path(s[i:], stride); n++ {
				reach(n, stride)
			}
		}
		for n := 3; n <= before[i]; n++ {
			reach(n, 1)
		}
		if isYear(s[i:]) {
			reach(4, 1)
		}
	}
	return least[len(s)]
}

// withOwn returns words with what the person is known by in them, in parts of
// four characters and more.
func withOwn(words map[rune][][]rune, own []string) map[rune][][]rune {
	all := make(map[rune][][]rune, len(words))
	for first, list := range words {
		all[first] = list[:len(list):len(list)]
	}
	for _, o := range own {
		for part := range strings.FieldsFuncSeq(strings.ToLower(o), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if runes := []rune(part); len(runes) >= 4 {
				all[runes[0]] = append(all[runes[0]], runes)
			}
		}
	}
	return all
}

// plain undoes the substitutions that every guesser knows.
var plain = map[rune]rune{'@': 'a', '4': 'a', '3': 'e', '1': 'i', '!': 'i', '0': 'o', '$': 's', '5': 's', '7': 't'}

// beginsWith reports whether s begins with the word. In a short one look-alikes
// don't count, or every other number would hold words.
func beginsWith(s, word []rune) bool {
	if len(s) < len(word) {
		return false
	}
	for i, w := range word {
		if s[i] != w && (len(word) < 4 || plain[s[i]] != w) {
			return false
		}
	}
	return true
}

// sequence is how many characters from the beginning of s go on by the same
// step up or down or none, each from the one that stands stride before it: aaaa,
// 1234, 9876 and, by a stride of two, a1b2c3 and aabbcc. After 9 comes 0.
func sequence(s []rune, stride int) int {
	if len(s) <= stride {
		return len(s)
	}
	step := func(i int) rune {
		if s[i-stride] == '9' && s[i] == '0' {
			return 1
		}
		return s[i] - s[i-stride]
	}
	first := step(stride)
	if first < -1 || first > 1 {
		return stride
	}
	n := stride + 1
	for n < len(s) && step(n) == first {
		n++
	}
	return n
}

// keyboards are rows of keys: English with and without shift, German, French.
var keyboards = [][]string{
	{"1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"},
	{"!@#$%^&*()_+", "qwertyuiop{}", "asdfghjkl:\"", "zxcvbnm<>?"},
	{"1234567890ß´", "qwertzuiopü+", "asdfghjklöä#", "yxcvbnm,.-"},
	{"&é\"'(-è_çà)=", "azertyuiop^$", "qsdfghjklmù*", "wxcvbn,;:!"},
}

// key is where a key is, or a step from one to another.
type key struct{ row, column int }

var keys = sync.OnceValue(func() []map[rune]key {
	all := make([]map[rune]key, len(keyboards))
	for i, rows := range keyboards {
		all[i] = map[rune]key{}
		for row, text := range rows {
			for column, r := range []rune(text) {
				all[i][r] = key{row, column}
			}
		}
	}
	return all
})

// path is how many characters from the beginning of s go straight over a
// keyboard, each key touching the one before it: qwerty, 1qaz. By a stride of
// two the path goes to and fro: 1q2w3e4r.
func path(s []rune, stride int) int {
	longest := 0
	for _, at := range keys() {
		var steps []key
		for n := 1; n < len(s); n++ {
			a, known := at[s[n-1]]
			b, also := at[s[n]]
			step := key{b.row - a.row, b.column - a.column}
			if !known || !also || step.row*step.row > 1 || step.column*step.column > 1 {
				break
			}
			if n > stride && step != steps[n-1-stride] {
				break
			}
			steps = append(steps, step)
		}
		longest = max(longest, len(steps)+1)
	}
	return min(longest, len(s))
}

// repeats returns, for each place of s, how many characters from there on stood
// in s before it.
func repeats(s []rune) []int {
	longest := make([]int, len(s))
	// same[j] is how many characters are the same from j and from i on.
	same := make([]int, len(s)+1)
	for i := len(s) - 1; i >= 0; i-- {
		for j := range i { // same[j+1] still is of i+1
			if s[i] == s[j] {
				same[j] = same[j+1] + 1
			} else {
				same[j] = 0
			}
			longest[i] = max(longest[i], min(same[j], i-j))
		}
	}
	return longest
}

func isYear(s []rune) bool {
	if len(s) < 4 || !(s[0] == '1' && s[1] == '9' || s[0] == '2' && s[1] == '0') {
		return false
	}
	return s[2] >= '0' && s[2] <= '9' && s[3] >= '0' && s[3] <= '9'
}
