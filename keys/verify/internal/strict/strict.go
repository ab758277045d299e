// Package strict reads what comes from the network in the one way that every
// reader agrees on: a JWS in compact form, and JSON objects with no member
// twice. Its errors are reasons for a log, without a prefix; they hold at most
// a few quoted bytes of what came.
package strict

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxMembers bounds a header or a payload.
const maxMembers = 64

// b64 accepts the one canonical spelling of each value.
var b64 = base64.RawURLEncoding.Strict()

// Decode reads canonical base64url without padding (RFC 7515 §2).
func Decode(text string) ([]byte, error) {
	// Decoding skips line breaks, which would be a second spelling.
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("there are line breaks in the base64url")
	}
	return b64.DecodeString(text)
}

// JWS is a JWS taken apart, nothing of it believed yet.
type JWS struct {
	Header, Payload []byte
	Signed          []byte // what the signature covers
	Signature       []byte
}

// Compact takes a JWS in compact form apart (RFC 7515 §7.1).
func Compact(jws string) (JWS, error) {
	first := strings.IndexByte(jws, '.')
	last := strings.LastIndexByte(jws, '.')
	if first < 0 || last == first || strings.IndexByte(jws[first+1:last], '.') >= 0 {
		return JWS{}, errors.New("there are not three parts with dots between")
	}
	if strings.ContainsAny(jws, "\r\n") { // see Decode
		return JWS{}, errors.New("there are line breaks")
	}
	// One decode buffer for the three parts.
	buf := make([]byte, b64.DecodedLen(len(jws)))
	decode := func(part string) ([]byte, bool) {
		n, err := b64.Decode(buf, []byte(part))
		out := buf[:n:n]
		buf = buf[n:]
		return out, err == nil
	}
	head, ok1 := decode(jws[:first])
	payload, ok2 := decode(jws[first+1 : last])
	signature, ok3 := decode(jws[last+1:])
	if !ok1 || !ok2 || !ok3 {
		return JWS{}, errors.New("a part is not in canonical base64url")
	}
	return JWS{Header: head, Payload: payload, Signed: []byte(jws[:last]), Signature: signature}, nil
}

// Object calls member for each member of a JSON object, with its value as it
// is written. No name may stand twice, in any case, or be written with
// escapes: encoding/json and other readers differ in which of several they
// take, and no reader of the same bytes shall see another value. The members
// of objects inside are not looked at. An error of member ends it and is
// returned as it is.
func Object(raw []byte, member func(name, value string) error) error {
	if len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) || !utf8.Valid(raw) {
		return errors.New("a JSON object is expected")
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
			return errors.New("a member's name is written with escapes")
		}
		for _, before := range names[:n] {
			if strings.EqualFold(before, name) {
				return fmt.Errorf("the member %.40q stands twice", name)
			}
		}
		if n == maxMembers {
			return fmt.Errorf("there are more than %d members", maxMembers)
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

// Text reads a string.
func Text(value string) (string, error) {
	if value[0] != '"' {
		return "", fmt.Errorf("a text is expected, not %.20q", value)
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	err := json.Unmarshal([]byte(value), &s)
	return s, err
}

// Texts reads a list of strings.
func Texts(value string) ([]string, error) {
	var list []string
	if err := json.Unmarshal([]byte(value), &list); err != nil || value[0] != '[' {
		return nil, fmt.Errorf("a list of texts is expected, not %.20q", value)
	}
	return list, nil
}

// farthest is the latest time that a NumericDate may name, in seconds: beyond
// the year 9999 something is wrong.
const farthest = 253402300799

// Date reads a NumericDate, which may have a fraction (RFC 7519 §2).
func Date(value string) (time.Time, error) {
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil || seconds <= 0 || seconds > farthest {
		return time.Time{}, fmt.Errorf("a time is expected, not %.20q", value)
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*1e9)), nil
}
