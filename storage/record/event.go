package record

import (
	"crypto/sha256"
	"encoding/hex"
)

// EventTagSize is how long an event's tag is.
const EventTagSize = 12

// EventTag is what a cursor says of the event that it stands behind, in hex. A
// store that has lost events may give their places to others; by the tag a
// reader who was there notices.
func EventTag(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:EventTagSize/2])
}
