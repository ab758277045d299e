package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"
)

// dpopKey is an SPA's DPoP key.
type dpopKey struct {
	private *ecdsa.PrivateKey
	header  string // of its proofs, in base64url
}

var b64 = base64.RawURLEncoding

func newDPoPKey() (*dpopKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	header := `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"` +
		b64.EncodeToString(point[1:33]) + `","y":"` + b64.EncodeToString(point[33:]) + `"}}`
	return &dpopKey{private, b64.EncodeToString([]byte(header))}, nil
}

// prove makes a proof for a request (RFC 9449 §4.2), with an access token if it
// is not empty. Method and address need no escapes in JSON.
func (k *dpopKey) prove(method, uri, accessToken string, now time.Time) (string, error) {
	claims := `{"jti":"` + rand.Text() + `","htm":"` + method + `","htu":"` + uri + `","iat":` + strconv.FormatInt(now.Unix(), 10)
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims += `,"ath":"` + b64.EncodeToString(sum[:]) + `"`
	}
	input := k.header + "." + b64.EncodeToString([]byte(claims+"}"))
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte // RFC 7518 §3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + b64.EncodeToString(signature[:]), nil
}
