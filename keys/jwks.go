package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
)

// Document is a prepared JSON document with its entity tag.
type Document struct {
	Body []byte
	ETag string // quoted, as the header carries it
}

// JWKS returns the JSON Web Key Set (RFC 7517 §5): the public halves of all
// keys that sign, will sign, or signed a token that may still be good.
func (r *Ring) JWKS() Document { return r.snap.Load().jwks }

func publish(keys []*key) Document {
	var b bytes.Buffer
	b.WriteString(`{"keys":[`)
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(k.Public)
	}
	b.WriteString("]}\n")
	sum := sha256.Sum256(b.Bytes())
	return Document{Body: b.Bytes(), ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}
