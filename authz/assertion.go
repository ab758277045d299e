package authz

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
)

const badAssertion = "The client_assertion is invalid, expired or was used before."

// Bounds of an assertion: its size in bytes, and how long it may live.
const (
	maxAssertion     = maxParameter // like every parameter of a pushed request
	maxAssertionLife = 10 * time.Minute
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

// maxMembers bounds a header and the claims.
const maxMembers = 64

// object reads a JSON object into a struct. No name may stand twice, in any
// case (RFC 7515 §4, RFC 7519 §4): encoding/json takes the last of several, and
// other readers another. With only, no other names may stand there.
func object(raw []byte, into any, only ...string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return errors.New("a JSON object is expected")
	}
	var names []string
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return errors.New("a JSON object is expected")
		}
		switch {
		case slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }):
			return fmt.Errorf("%.40q stands there twice", name)
		case len(only) > 0 && !slices.Contains(only, name):
			return fmt.Errorf("it has %.40q, none but %q are expected", name, only)
		case len(names) == maxMembers:
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		names = append(names, name)
	}
	if err := json.Unmarshal(raw, into); err != nil { // something after it, too
		return errors.New("a member is of another type")
	}
	return nil
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
	if err := object(payload, &claims); err != nil {
		return "", fmt.Errorf("its claims: %w", err)
	}
	if claims.Subject == "" {
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
	// No crit, jwk, jku, x5u: nothing that brings a key or changes the reading.
	if err := object(head, &header, "alg", "kid", "typ"); err != nil {
		return nil, fmt.Errorf("its header: %w", err)
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
	if err := object(payload, &claims); err != nil {
		return nil, fmt.Errorf("its claims: %w", err)
	}
	var audience string
	now := s.Now()
	ahead := float64(now.Add(clockLeeway).Unix())
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
		expires: time.Unix(int64(*claims.Expires)+1, 0).Add(clockLeeway),
	}, nil
}
