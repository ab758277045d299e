package redis

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/record"
)

// A time is eight bytes, big-endian: four of seconds since the epoch, four of
// nanoseconds; all zero for none. It ends in 2106.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, make([]byte, 8)...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// times is appendTime of each.
func times(list ...time.Time) string {
	b := make([]byte, 0, 8*len(list))
	for _, t := range list {
		b = appendTime(b, t)
	}
	return string(b)
}

func timeAt(b string, at int) time.Time {
	s, n := number(b, at), number(b, at+4)
	if s == 0 && n == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), int64(n)).UTC()
}

func number(b string, at int) uint32 {
	return uint32(b[at])<<24 | uint32(b[at+1])<<16 | uint32(b[at+2])<<8 | uint32(b[at+3])
}

// A grant is a head that scripts change in place, its data, and the reason if
// it was revoked:
//
//	 0  format, 2         33  expiry         61  thumbprint of the key that it
//	 1  redeemed at       41  revoked at         is bound to; 32 zeros: none
//	 9  generation        49  code's expiry  93  data, reason
//	17  rotated at        57  length of the
//	25  idle expiry           data
const (
	grantFormat = 2
	grantHead   = 93
)

// encodeGrant encodes a grant that is bound to the key of a thumbprint, if that
// is not nil.
func encodeGrant(g storage.Grant, jkt []byte) string {
	data := record.EncodeGrant(g)
	b := make([]byte, 0, grantHead+len(data)+len(g.RevokedFor))
	b = append(b, grantFormat)
	b = appendTime(b, g.RedeemedAt)
	b = binary.BigEndian.AppendUint64(b, g.Generation)
	for _, t := range []time.Time{g.RotatedAt, g.IdleExpires, g.Expires, g.RevokedAt, g.CodeExpires} {
		b = appendTime(b, t)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, make([]byte, grantHead-len(b))...)
	copy(b[61:], jkt)
	b = append(b, data...)
	return string(append(b, g.RevokedFor...))
}

var noThumbprint = string(make([]byte, grantHead-61))

func decodeGrant(id storage.GrantID, b string) (storage.Grant, error) {
	if len(b) < grantHead || b[0] != grantFormat || uint64(len(b)-grantHead) < uint64(number(b, 57)) {
		return storage.Grant{}, damaged("grant", record.ErrDamaged)
	}
	end := grantHead + int(number(b, 57))
	g, err := record.DecodeGrant(id, []byte(b[grantHead:end]))
	if err != nil {
		return g, damaged("grant", err)
	}
	g.RedeemedAt, g.Generation = timeAt(b, 1), uint64(number(b, 9))<<32|uint64(number(b, 13))
	g.RotatedAt, g.IdleExpires, g.Expires, g.RevokedAt = timeAt(b, 17), timeAt(b, 25), timeAt(b, 33), timeAt(b, 41)
	if jkt := b[61:grantHead]; jkt != noThumbprint {
		if g.JKT, err = record.JKT([]byte(jkt)); err != nil {
			return g, damaged("grant", err)
		}
	}
	g.RevokedFor = b[end:]
	return g, nil
}

// A session is a head of last use, idle expiry and end, and its data.
const sessionHead = 24

func encodeSession(x storage.Session) string {
	return times(x.LastSeen, x.IdleExpires, x.EndedAt) + string(record.EncodeSession(x))
}

func decodeSession(id storage.SessionID, b string) (storage.Session, error) {
	if len(b) < sessionHead {
		return storage.Session{}, damaged("session", record.ErrDamaged)
	}
	x, err := record.DecodeSession(id, []byte(b[sessionHead:]))
	if err != nil {
		return x, damaged("session", err)
	}
	x.LastSeen, x.IdleExpires, x.EndedAt = timeAt(b, 0), timeAt(b, 8), timeAt(b, 16)
	return x, nil
}

// What is replaced by compare-and-swap is its version, eight bytes, and JSON.
// A user's has its name between them, with its length in four bytes: scripts
// compare it.
func encodeVersioned(version uint64, name string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return versionText(version) + name + string(data), nil
}

func versionText(v uint64) string { return string(binary.BigEndian.AppendUint64(nil, v)) }

func nameText(name string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(name)))) + name
}

func versionOf(b string) uint64 { return uint64(number(b, 0))<<32 | uint64(number(b, 4)) }

func decodeVersioned(what, b string, into any) (version uint64, err error) {
	if len(b) < 8 {
		return 0, damaged(what, record.ErrDamaged)
	}
	if err := json.Unmarshal([]byte(b[8:]), into); err != nil {
		return 0, damaged(what, err)
	}
	return versionOf(b), nil
}

func decodeUser(b string) (u storage.User, err error) {
	if len(b) < 12 || uint64(len(b)-12) < uint64(number(b, 8)) {
		return u, damaged("user", record.ErrDamaged)
	}
	if err := json.Unmarshal([]byte(b[12+int(number(b, 8)):]), &u); err != nil {
		return u, damaged("user", err)
	}
	u.Version = versionOf(b)
	return u, nil
}

// errDamaged is in every error of a record that can't be read.
var errDamaged = errors.New("damaged: restore it from a backup")

func damaged(what string, err error) error {
	return fmt.Errorf("%w: a %s is %w: %w", storage.ErrUnavailable, what, errDamaged, err)
}
