package feed

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// AppendMessage appends a message of a stream of server-sent events (HTML
// Living Standard §9.2): the cursor as its id and the JWS as its data.
func AppendMessage(b []byte, id Cursor, jws string) []byte {
	b = append(b, "id: "...)
	b = append(b, id...)
	b = append(b, "\ndata: "...)
	b = append(b, jws...)
	return append(b, '\n', '\n')
}

// AppendComment appends a comment, which a reader skips: it shows that the
// connection works, and nothing else, for nobody signed it.
func AppendComment(b []byte) []byte { return append(b, ":\n\n"...) }

// Reader reads a stream of server-sent events with bounded memory.
type Reader struct{ lines *bufio.Reader }

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, MaxMessage+64)} }

// ErrTooLong says that a line of the stream is longer than any message.
var ErrTooLong = errors.New("feed: a line of the stream is longer than a message can be")

// Next returns the data of the next message: a JWS. Its id and all else that
// nobody signed is skipped. At the end, also in the middle of a message, it is
// an error of the underlying reader or io.EOF.
func (r *Reader) Next() (string, error) {
	jws, has := "", false
	for {
		raw, err := r.lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return "", ErrTooLong
		case err != nil:
			return "", err
		}
		line := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if line == "" {
			if has {
				return jws, nil
			}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		if field != "data" {
			continue
		}
		if has {
			return "", errors.New("feed: a message of the stream has two lines of data, one is expected")
		}
		jws, has = strings.TrimPrefix(value, " "), true
	}
}
