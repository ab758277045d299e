package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// window is how long a nonce is the current one.
const window = 2 * time.Minute

// Nonces makes and checks a server's nonces (RFC 9449 §8 and §9), which show
// that a proof is fresh whatever the client's clock says, and that it was not
// made in advance. Nothing is stored: a nonce is a MAC over a window of time,
// and whoever has the key makes and accepts the same ones. An authorization
// server and an API have different keys. It is safe for concurrent use.
type Nonces struct{ key [32]byte }

// NewNonces returns the nonces of a key, which is random and shared by all
// replicas of one server. Each is the current one for two minutes. It is good in
// that time and in the two minutes after, and in those before for servers whose
// clock is behind.
func NewNonces(key [32]byte) *Nonces { return &Nonces{key} }

// Current returns the nonce to send in DPoP-Nonce.
func (n *Nonces) Current(now time.Time) string { return n.of(number(now)) }

// Valid reports whether a proof with the nonce is fresh enough.
func (n *Nonces) Valid(nonce string, now time.Time) bool {
	if len(nonce) != 32 {
		return false
	}
	raw, err := strict.Decode(nonce)
	if err != nil {
		return false
	}
	claimed, current := int64(binary.BigEndian.Uint64(raw)), number(now)
	if claimed < current-1 || claimed > current+1 {
		return false
	}
	return hmac.Equal([]byte(n.of(claimed)), []byte(nonce))
}

// end is when a nonce that was Valid is good no longer.
func (n *Nonces) end(nonce string) time.Time {
	raw, _ := strict.Decode(nonce) // Valid has read it
	return time.Unix(0, (int64(binary.BigEndian.Uint64(raw))+2)*int64(window))
}

// number is that of the window at now, since the Unix epoch.
func number(now time.Time) int64 { return now.UnixNano() / int64(window) }

// of returns the nonce of a window: its number, so that one MAC is enough to
// check it, and half of the MAC.
func (n *Nonces) of(number int64) string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, 8+sha256.Size), uint64(number))
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write([]byte("dpop nonce"))
	mac.Write(raw)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(raw)[:24])
}
