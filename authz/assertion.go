package authz

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
)

const badAssertion = "The client_assertion is invalid, expired or was used before."

// Bounds of an assertion: its size in bytes, how long it may live, and how far
// two clocks may differ.
const (
	maxAssertion       = 8 << 10
	maxAssertionLife   = 10 * time.Minute
	maxAssertionLeeway = 10 * time.Second
)

// assertion is a client assertion that was checked (RFC 7523 §3).
type assertion struct {
	replay  [32]byte // of its jti
	expires time.Time
}

// splitAssertion decodes the parts of a JWS in compact form. Every part has the
// one canonical spelling.
func splitAssertion(text string) (header, payload, signature []byte, err error) {
	if len(text) > maxAssertion {
		return nil, nil, nil, fmt.Errorf("it has %d bytes, at most %d are expected", len(text), maxAssertion)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || strings.ContainsAny(text, "\r\n") {
		return nil, nil, nil, errors.New("it is no JWS in compact form")
	}
	var decoded [3][]byte
	for i, part := range parts {
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, nil, nil, errors.New("it is not in canonical base64url")
		}
	}
	return decoded[0], decoded[1], decoded[2], nil
}

// assertedClient returns whose assertion it says it is.
func assertedClient(text string) (clients.ID, error) {
	_, payload, _, err := splitAssertion(text)
	if err != nil {
		return "", err
	}
	var claims struct {
		Subject clients.ID `json:"sub"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Subject == "" {
		return "", errors.New("it has no sub")
	}
	return claims.Subject, nil
}

// checkAssertion checks an assertion of the client or resource server named
// subject, whose registered keys are given. Its audience is this issuer, as one
// string, and nothing else: an assertion that another server could be meant by
// too could be taken from there to here (RFC 10070).
func (s *Server) checkAssertion(text, subject string, registered func() ([]clients.Key, error)) (*assertion, error) {
	head, payload, signature, err := splitAssertion(text)
	if err != nil {
		return nil, err
	}
	var header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}
	d := json.NewDecoder(strings.NewReader(string(head)))
	d.DisallowUnknownFields() // crit, jwk, jku, x5u: nothing that brings a key or changes the reading
	if err := d.Decode(&header); err != nil {
		return nil, errors.New("its header has other members than alg, kid and typ")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("its header is followed by something")
	}
	if typ := strings.ToLower(header.Type); typ != "" && typ != "jwt" && typ != "client-authentication+jwt" {
		return nil, fmt.Errorf("its typ is %.40q", header.Type)
	}
	list, err := registered()
	if err != nil {
		return nil, fmt.Errorf("the registered keys can't be read: %w", err)
	}
	signed := []byte(text[:strings.LastIndexByte(text, '.')])
	if !slices.ContainsFunc(list, func(k clients.Key) bool {
		return (header.KeyID == "" || k.ID == "" || k.ID == header.KeyID) && slices.Contains(k.Algorithms, header.Algorithm) &&
			keys.VerifySignature(keys.Algorithm(header.Algorithm), k.Public, signed, signature)
	}) {
		return nil, errors.New("no registered key made its signature")
	}

	var claims struct {
		Issuer    string          `json:"iss"`
		Subject   string          `json:"sub"`
		Audience  json.RawMessage `json:"aud"`
		ID        string          `json:"jti"`
		Expires   *float64        `json:"exp"`
		NotBefore *float64        `json:"nbf"`
		IssuedAt  *float64        `json:"iat"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, errors.New("its claims can't be read")
	}
	var audience string
	now := s.Now()
	ahead := float64(now.Add(maxAssertionLeeway).Unix())
	switch {
	case claims.Issuer != subject || claims.Subject != subject:
		return nil, errors.New("its iss and sub are not both the client's identifier")
	case json.Unmarshal(claims.Audience, &audience) != nil || audience != s.Issuer:
		return nil, fmt.Errorf("its aud is not the issuer %s as one string", s.Issuer)
	case claims.ID == "" || len(claims.ID) > 256:
		return nil, errors.New("its jti is missing or has more than 256 bytes")
	case claims.Expires == nil || *claims.Expires <= float64(now.Unix()):
		return nil, errors.New("its exp is missing or past")
	case *claims.Expires > float64(now.Add(maxAssertionLife).Unix()):
		return nil, fmt.Errorf("its exp is more than %s ahead", maxAssertionLife)
	case claims.NotBefore != nil && *claims.NotBefore > ahead, claims.IssuedAt != nil && *claims.IssuedAt > ahead:
		return nil, errors.New("it is of the future")
	}
	return &assertion{
		replay: sha256.Sum256([]byte("client assertion\x00" + subject + "\x00" + claims.ID)),
		// A server whose clock is behind accepts it for longer.
		expires: time.Unix(int64(*claims.Expires)+1, 0).Add(maxAssertionLeeway),
	}, nil
}
