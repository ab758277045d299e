package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is one HTTP/1.1 connection that does one request after another. It
// understands what net/http's server says to small requests, and nothing else:
// the work of a full client would be a third of what is measured.
type conn struct {
	address string
	net     net.Conn
	read    *bufio.Reader
	body    []byte
}

// response is an answer; its slices are good until the next request.
type response struct {
	status   int
	location string
	body     []byte
}

// patience is how long one request may take before it counts as failed.
const patience = 10 * time.Second

// maxBody bounds an answer's body.
const maxBody = 1 << 20

func newConn(address string) *conn {
	return &conn{address: address, read: bufio.NewReaderSize(nil, 16<<10)}
}

// do sends a whole request and reads the answer. After an error the next call
// connects anew.
func (c *conn) do(request []byte) (response, error) {
	if c.net == nil {
		n, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return response{}, err
		}
		c.net = n
		c.read.Reset(n)
	}
	r, err := c.exchange(request)
	if err != nil {
		c.close()
	}
	return r, err
}

func (c *conn) exchange(request []byte) (response, error) {
	if err := c.net.SetDeadline(time.Now().Add(patience)); err != nil {
		return response{}, err
	}
	if _, err := c.net.Write(request); err != nil {
		return response{}, err
	}
	return c.readResponse()
}

func (c *conn) close() {
	if c.net != nil {
		c.net.Close()
		c.net = nil
	}
}

var errAnswer = errors.New("not an answer that is understood here")

// readResponse reads a status line, header fields and as much of a body as
// Content-Length says (RFC 9112 §6).
func (c *conn) readResponse() (response, error) {
	line, err := c.line()
	if err != nil {
		return response{}, err
	}
	// HTTP/1.1 200 OK
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return response{}, fmt.Errorf("%w: status line %.40q", errAnswer, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 200 || status > 599 {
		return response{}, fmt.Errorf("%w: status line %.40q", errAnswer, line)
	}
	r := response{status: status}
	length := -1
	for {
		if line, err = c.line(); err != nil {
			return response{}, err
		}
		if len(line) == 0 {
			break
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			return response{}, fmt.Errorf("%w: header field %.40q", errAnswer, line)
		}
		// net/http writes names in their canonical form.
		switch string(name) {
		case "Content-Length":
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || length < 0 || length > maxBody {
				return response{}, fmt.Errorf("%w: Content-Length %.40q", errAnswer, value)
			}
		case "Location":
			r.location = string(bytes.TrimSpace(value))
		}
	}
	switch {
	case status == 204 || status == 304:
		return r, nil
	case length < 0:
		return response{}, fmt.Errorf("%w: status %d without Content-Length", errAnswer, status)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	r.body = c.body[:length]
	_, err = io.ReadFull(c.read, r.body)
	return r, err
}

// line reads a line without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.read.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// get is a whole request; the extra fields end with CR LF each.
func get(host, target, extra string) []byte {
	return []byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + extra + "\r\n")
}

// post is a whole request with a form, made for one body after another.
type post struct {
	head   string
	buffer []byte
}

func newPost(host, target, extra string) *post {
	return &post{head: "POST " + target + " HTTP/1.1\r\nHost: " + host +
		"\r\nContent-Type: application/x-www-form-urlencoded\r\n" + extra}
}

// with returns the request with this DPoP proof, if it is not empty, and this
// body. It is good until the next call.
func (p *post) with(proof string, parts ...string) []byte {
	length := 0
	for _, s := range parts {
		length += len(s)
	}
	b := append(p.buffer[:0], p.head...)
	if proof != "" {
		b = append(append(append(b, "DPoP: "...), proof...), "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, "\r\n\r\n"...)
	for _, s := range parts {
		b = append(b, s...)
	}
	p.buffer = b
	return b
}

// member returns a string member of a JSON object that holds no escapes, as
// codes and tokens do; empty if there is none.
func member(body []byte, name string) string {
	_, rest, found := bytes.Cut(body, []byte(`"`+name+`":"`))
	if !found {
		return ""
	}
	value, _, found := bytes.Cut(rest, []byte(`"`))
	if !found {
		return ""
	}
	return string(value)
}
