// Package record is the compact form in which every backend keeps a session
// and a grant: they are read at every refresh, and there are millions. What
// changes in the life of one is not in it: each backend keeps that where it
// can change it in place.
package record

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// A record is a version, then each field with its length.
//
// To add a field, append it, and raise the version: a reader knows the fields
// of every version from the oldest up to its own.
const (
	oldest         = 2 // before it identifiers said nothing of whose they are
	sessionVersion = 2
	grantVersion   = 4
	wordVersion    = 3 // words are shortened from here on
	placeVersion   = 4 // a grant may have a place in a status list from here on
)

// ErrDamaged is what decoding answers to bytes that no encoding made.
var ErrDamaged = errors.New("a record is damaged")

// Nanos is t as it is stored: nanoseconds since the epoch, 0 for the zero time.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Thumbprint is what is stored of the JKT of a grant: its 32 bytes, or nothing
// for the empty one. Zeros are refused: no hash is that, and a backend may
// store nothing as that.
func Thumbprint(jkt string) ([]byte, error) {
	if jkt == "" {
		return nil, nil
	}
	b, err := strictB64.DecodeString(jkt)
	if err != nil || len(b) != thumbprintSize || len(jkt) != strictB64.EncodedLen(thumbprintSize) || [thumbprintSize]byte(b) == [thumbprintSize]byte{} {
		return nil, fmt.Errorf("thumbprint of %d characters: 43 of base64url expected, of 32 bytes that are not all zero (RFC 7638)", len(jkt))
	}
	return b, nil
}

const thumbprintSize = 32

// strictB64 knows one text for each bytes.
var strictB64 = base64.RawURLEncoding.Strict()

// JKT is what Thumbprint stored. The error is ErrDamaged.
func JKT(b []byte) (string, error) {
	switch len(b) {
	case 0:
		return "", nil
	case thumbprintSize:
		return b64.EncodeToString(b), nil
	}
	return "", ErrDamaged
}

// Instant is the time that Nanos stored.
func Instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

type encoder struct{ b []byte }

func (e *encoder) text(s string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) texts(list []string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(list)))
	for _, s := range list {
		e.text(s)
	}
}

// words are what most grants say, by the number that stands for each: 40 bytes
// of a grant. To add one, append it, up to maxWords, and raise the version.
var words = []string{"", "openid", "offline_access", "profile", "email", "urn:solegate:acr:password", "pwd"}

const maxWords = 32

// word writes text that may be one of words: its number, or maxWords and its
// length.
func (e *encoder) word(s string) {
	if i := slices.Index(words, s); i >= 0 {
		e.b = append(e.b, byte(i))
		return
	}
	e.b = binary.AppendUvarint(e.b, maxWords+uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) words(list []string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(list)))
	for _, s := range list {
		e.word(s)
	}
}

func (e *encoder) time(t time.Time) { e.b = binary.AppendVarint(e.b, Nanos(t)) }

// packed writes text that stands for bytes as those: identifiers and
// challenges are a third of a grant.
func (e *encoder) packed(s string, encoding encoding) {
	if raw, err := encoding.DecodeString(s); err == nil && encoding.EncodeToString(raw) == s {
		e.b = append(e.b, 1)
		e.text(string(raw))
		return
	}
	e.b = append(e.b, 0)
	e.text(s)
}

// since writes a time by how long it is after another.
func (e *encoder) since(from, t time.Time) { e.b = binary.AppendVarint(e.b, Nanos(t)-Nanos(from)) }

type encoding interface {
	EncodeToString([]byte) string
	DecodeString(string) ([]byte, error)
}

var (
	// idEncoding is that of clients.NewID.
	idEncoding encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	// b64 is that of PKCE challenges.
	b64 encoding = base64.RawURLEncoding
)

// decoder reads what encoder wrote. After an error every value is zero.
type decoder struct {
	b   string // strings that are read are parts of it
	v   uint64 // the record's version
	err error
}

func (d *decoder) fail() {
	d.err, d.b = ErrDamaged, ""
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for i, shift := 0, 0; i < len(d.b) && shift < 64; i, shift = i+1, shift+7 {
		v |= uint64(d.b[i]&0x7f) << shift
		if d.b[i] < 0x80 {
			d.b = d.b[i+1:]
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) text() string { return d.take(d.uvarint()) }

func (d *decoder) word() string {
	n := d.uvarint()
	switch {
	case d.v < wordVersion:
		return d.take(n)
	case n < uint64(len(words)):
		return words[n]
	case n < maxWords:
		d.fail()
		return ""
	}
	return d.take(n - maxWords)
}

func (d *decoder) texts() []string { return d.list(d.text) }

func (d *decoder) words() []string { return d.list(d.word) }

func (d *decoder) list(one func() string) []string {
	n := d.uvarint()
	if n == 0 || n > uint64(len(d.b)) {
		if n > 0 {
			d.fail()
		}
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = one()
	}
	return list
}

func (d *decoder) time() time.Time {
	u := d.uvarint()
	return Instant(int64(u>>1) ^ -int64(u&1)) // zigzag, as AppendVarint writes
}

func (d *decoder) packed(encoding encoding) string {
	switch kind := d.uvarint(); kind {
	case 0:
		return d.text()
	case 1:
		return encoding.EncodeToString([]byte(d.text()))
	default:
		d.fail()
		return ""
	}
}

func (d *decoder) since(from time.Time) time.Time {
	u := d.uvarint()
	return Instant(Nanos(from) + (int64(u>>1) ^ -int64(u&1)))
}

func (d *decoder) version(highest uint64) {
	if d.v = d.uvarint(); d.v < oldest || d.v > highest {
		d.fail()
	}
}

// end returns the first error, or one if something is left over.
func (d *decoder) end() error {
	if d.err == nil && d.b != "" {
		d.fail()
	}
	return d.err
}

// EncodeSession encodes what never changes of a session: all but ID, User,
// LastSeen, IdleExpires and EndedAt.
func EncodeSession(s storage.Session) []byte {
	e := &encoder{make([]byte, 0, 256)}
	e.b = binary.AppendUvarint(e.b, sessionVersion)
	e.time(s.CreatedAt)
	e.b = append(e.b, s.Secret[:]...)
	e.since(s.CreatedAt, s.AuthTime)
	e.text(s.ACR)
	e.texts(s.AMR)
	e.since(s.CreatedAt, s.Expires)
	e.text(s.Address)
	e.text(s.UserAgent)
	e.b = binary.AppendUvarint(e.b, s.Epoch)
	return e.b
}

// DecodeSession decodes what EncodeSession made of the session id. The error
// is ErrDamaged.
func DecodeSession(id storage.SessionID, b []byte) (s storage.Session, err error) {
	d := &decoder{b: string(b)}
	d.version(sessionVersion)
	s.ID, s.User = id, id.User()
	s.CreatedAt = d.time()
	copy(s.Secret[:], d.take(uint64(len(s.Secret))))
	s.AuthTime = d.since(s.CreatedAt)
	s.ACR = d.text()
	s.AMR = d.texts()
	s.Expires = d.since(s.CreatedAt)
	s.Address = d.text()
	s.UserAgent = d.text()
	s.Epoch = d.uvarint()
	return s, d.end()
}

// EncodeGrant encodes what never changes of a grant: all but ID, User, Session,
// JKT, RedeemedAt, Generation, RotatedAt, IdleExpires, Expires, RevokedAt and
// RevokedFor.
func EncodeGrant(g storage.Grant) []byte {
	e := &encoder{make([]byte, 0, 512)}
	version := uint64(grantVersion)
	if g.Status == (storage.Place{}) {
		// Nothing that the version before does not know: a server of that one
		// beside this reads it, too.
		version = placeVersion - 1
	}
	e.b = binary.AppendUvarint(e.b, version)
	e.time(g.CreatedAt)
	e.packed(string(g.Client), idEncoding)
	e.words(g.Scope)
	e.texts(g.Resource)
	e.since(g.CreatedAt, g.AuthTime)
	e.word(g.ACR)
	e.words(g.AMR)
	e.b = append(e.b, g.Salt[:]...)
	e.text(string(g.RedirectURI))
	e.packed(g.CodeChallenge, b64)
	e.text(g.Nonce)
	e.since(g.CreatedAt, g.CodeExpires)
	e.b = binary.AppendUvarint(e.b, g.Epoch)
	if version >= placeVersion {
		e.packed(g.Status.List, b64)
		e.b = binary.AppendUvarint(e.b, uint64(g.Status.Index))
	}
	return e.b
}

// DecodeGrant decodes what EncodeGrant made of the grant id. The error is
// ErrDamaged.
func DecodeGrant(id storage.GrantID, b []byte) (g storage.Grant, err error) {
	d := &decoder{b: string(b)}
	d.version(grantVersion)
	g.ID, g.User, g.Session = id, id.User(), id.Session()
	g.CreatedAt = d.time()
	g.Client = clients.ID(d.packed(idEncoding))
	g.Scope = d.words()
	g.Resource = d.texts()
	g.AuthTime = d.since(g.CreatedAt)
	g.ACR = d.word()
	g.AMR = d.words()
	copy(g.Salt[:], d.take(uint64(len(g.Salt))))
	g.RedirectURI = clients.RedirectURI(d.text())
	g.CodeChallenge = d.packed(b64)
	g.Nonce = d.text()
	g.CodeExpires = d.since(g.CreatedAt)
	g.Epoch = d.uvarint()
	if d.v >= placeVersion {
		g.Status.List = d.packed(b64)
		index := d.uvarint()
		if g.Status.Index = uint32(index); uint64(g.Status.Index) != index {
			d.fail()
		}
	}
	return g, d.end()
}
