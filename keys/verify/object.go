package verify

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxMembers bounds a header or a payload.
const maxMembers = 64

// object calls member for each member of a JSON object, with its value as it
// is written. No name may stand twice, in any case, or be written with
// escapes: encoding/json and other readers differ in which of several they
// take, and no reader of the same token shall see another value.
func object(raw []byte, member func(name, value string) error) error {
	if len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) || !utf8.Valid(raw) {
		return refuse("a part of the token is no JSON object")
	}
	// The JSON is valid from here on: every string and every bracket ends.
	// Names and values are parts of this one string.
	data := string(raw)
	var names [maxMembers]string
	n := 0
	for i := skipSpace(data, 1); data[i] != '}'; {
		end := value(data, i)
		name := data[i+1 : end-1]
		if strings.IndexByte(name, '\\') >= 0 {
			return refuse("a member's name is written with escapes")
		}
		for _, before := range names[:n] {
			if len(before) == len(name) && strings.EqualFold(before, name) {
				return refuse("the member %.40q stands twice", name)
			}
		}
		if n == maxMembers {
			return refuse("there are more than %d members", maxMembers)
		}
		names[n] = name
		n++
		i = skipSpace(data, skipSpace(data, end)+1) // the colon
		end = value(data, i)
		if err := member(name, data[i:end]); err != nil {
			return err
		}
		if i = skipSpace(data, end); data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return nil
}

func skipSpace(data string, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// value returns where the value that begins at i ends.
func value(data string, i int) int {
	for depth := 0; ; i++ {
		switch data[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the object's own end, after a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
}

// text reads a string.
func text(value string) (string, error) {
	if value[0] != '"' {
		return "", refuse("a text is expected, not %.20q", value)
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	err := json.Unmarshal([]byte(value), &s)
	return s, err
}

// texts reads a list of strings.
func texts(value string) ([]string, error) {
	var list []string
	if err := json.Unmarshal([]byte(value), &list); err != nil || value[0] != '[' {
		return nil, refuse("a list of texts is expected, not %.20q", value)
	}
	return list, nil
}

// date reads a NumericDate, which may have a fraction (RFC 7519 §2).
func date(value string) (time.Time, error) {
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil || seconds <= 0 || seconds > farthest {
		return time.Time{}, refuse("a time is expected, not %.20q", value)
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*1e9)), nil
}
