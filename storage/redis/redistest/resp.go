package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// message is one request or answer in Redis's protocol, of version 2 or 3.
type message struct {
	kind byte
	raw  []byte // as it was on the wire
	text string // as Server.Do tells it
}

// read reads one message with all that it contains.
func read(r *bufio.Reader) (message, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return message{}, err
	}
	m := message{kind: line[0], raw: line, text: strings.TrimRight(string(line[1:]), "\r\n")}
	if !strings.ContainsRune("$=!*~>%|", rune(m.kind)) {
		return m, nil // it is all in the line
	}
	size, err := strconv.Atoi(m.text)
	if err != nil {
		return message{}, fmt.Errorf("not Redis's protocol: %q", line)
	}
	m.text = ""
	if size < 0 {
		return m, nil // null
	}
	switch m.kind {
	case '$', '=', '!':
		body := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, body); err != nil {
			return message{}, err
		}
		m.raw = append(m.raw, body...)
		m.text = string(body[:size])
		return m, nil
	case '%':
		size *= 2
	case '|':
		size = 2*size + 1 // attributes, and what they are attributes of
	}
	texts := make([]string, 0, min(size, 1024))
	for range size {
		part, err := read(r)
		if err != nil {
			return message{}, err
		}
		m.raw = append(m.raw, part.raw...)
		texts = append(texts, part.text)
	}
	m.text = strings.Join(texts, "\n")
	return m, nil
}

// call sends a command and reads its answer.
func call(w io.Writer, r *bufio.Reader, args []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return "", err
	}
	m, err := read(r)
	if err != nil {
		return "", err
	}
	if m.kind == '-' || m.kind == '!' {
		return "", errors.New(m.text)
	}
	return m.text, nil
}
