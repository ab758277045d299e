package provider

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// A code and a refresh token are made, not stored:
//
//	code          = "sgc_" base64url( grant id | tag )
//	refresh token = "sgr_" base64url( grant id | generation | tag )
//	tag           = HMAC-SHA-256( token key, kind | grant id | generation | salt )
//
// The salt is random and in the grant's record, the token key is sealed:
// neither a copy of the store nor the key alone makes a token. Because the
// token of a generation is always the same one, a client that asks again, or
// two tabs that ask at once, get the same successor: a family never forks.
// Because a tag can't be guessed, whoever presents a token of a past
// generation did have it: reuse is told from guessing without remembering any
// token.
const (
	codePrefix    = "sgc_"
	refreshPrefix = "sgr_"

	idSize         = 16
	generationSize = 8
	tagSize        = sha256.Size
)

// strategy makes the tokens that fosite hands out.
type strategy struct{ p *Provider }

var _ oauth2.CoreStrategy = strategy{}

// b64 refuses non-canonical spellings: one token, one string.
var b64 = base64.RawURLEncoding.Strict()

// newGrantID returns the id of a new grant, 128 random bits, and its salt.
func (p *Provider) newGrantID() (id storage.GrantID, salt [16]byte, err error) {
	var random [idSize + 16]byte
	if _, err := io.ReadFull(p.Rand, random[:]); err != nil {
		return "", salt, err
	}
	copy(salt[:], random[idSize:])
	return storage.GrantID(b64.EncodeToString(random[:idSize])), salt, nil
}

func (p *Provider) tag(prefix string, g storage.Grant, generation uint64) []byte {
	m := hmac.New(sha256.New, p.tokenKey[:])
	buf := make([]byte, 0, 96)
	buf = append(buf, prefix...)
	buf = append(buf, g.ID...) // of fixed length, like all that follows
	buf = binary.BigEndian.AppendUint64(buf, generation)
	buf = append(buf, g.Salt[:]...)
	m.Write(buf)
	return m.Sum(nil)
}

func (p *Provider) newCode(g storage.Grant) (string, error) {
	id, err := b64.DecodeString(string(g.ID))
	if err != nil {
		return "", err
	}
	return codePrefix + b64.EncodeToString(append(id, p.tag(codePrefix, g, 0)...)), nil
}

func (p *Provider) newRefreshToken(g storage.Grant, generation uint64) (string, error) {
	id, err := b64.DecodeString(string(g.ID))
	if err != nil {
		return "", err
	}
	id = binary.BigEndian.AppendUint64(id, generation)
	return refreshPrefix + b64.EncodeToString(append(id, p.tag(refreshPrefix, g, generation)...)), nil
}

func (p *Provider) isCode(g storage.Grant, tag []byte) bool {
	return hmac.Equal(tag, p.tag(codePrefix, g, 0))
}

func (p *Provider) isRefreshToken(g storage.Grant, generation uint64, tag []byte) bool {
	return hmac.Equal(tag, p.tag(refreshPrefix, g, generation))
}

// parseCode takes a code apart. It says nothing about whether it is one.
func parseCode(s string) (id storage.GrantID, tag []byte, ok bool) {
	b, ok := parse(s, codePrefix, idSize+tagSize)
	if !ok {
		return "", nil, false
	}
	return storage.GrantID(b64.EncodeToString(b[:idSize])), b[idSize:], true
}

// parseRefreshToken takes a refresh token apart. It says nothing about
// whether it is one.
func parseRefreshToken(s string) (id storage.GrantID, generation uint64, tag []byte, ok bool) {
	b, ok := parse(s, refreshPrefix, idSize+generationSize+tagSize)
	if !ok {
		return "", 0, nil, false
	}
	return storage.GrantID(b64.EncodeToString(b[:idSize])), binary.BigEndian.Uint64(b[idSize:]), b[idSize+generationSize:], true
}

func parse(s, prefix string, size int) ([]byte, bool) {
	if len(s) != len(prefix)+b64.EncodedLen(size) || s[:len(prefix)] != prefix {
		return nil, false
	}
	b, err := b64.DecodeString(s[len(prefix):])
	return b, err == nil
}

// Signatures are fosite's storage keys. Ours is the grant's id: no key ever
// holds a code or a token.

func (s strategy) AuthorizeCodeSignature(_ context.Context, code string) string {
	id, _, _ := parseCode(code)
	return string(id)
}

func (s strategy) RefreshTokenSignature(_ context.Context, token string) string {
	id, _, _, _ := parseRefreshToken(token)
	return string(id)
}

func (s strategy) AccessTokenSignature(context.Context, string) string { return "" }

func (s strategy) GenerateAuthorizeCode(ctx context.Context, _ fosite.Requester) (string, string, error) {
	w := workOf(ctx)
	var err error
	if w.grant.ID, w.grant.Salt, err = s.p.newGrantID(); err != nil {
		return "", "", err
	}
	code, err := s.p.newCode(w.grant)
	return code, string(w.grant.ID), err
}

func (s strategy) GenerateRefreshToken(ctx context.Context, _ fosite.Requester) (string, string, error) {
	w := workOf(ctx)
	g := w.standing.Grant
	// After a redemption the generation is 1, after a rotation the next one;
	// for a client that asks again it is the one that is live already.
	token, err := s.p.newRefreshToken(g, w.generation+1)
	return token, string(g.ID), err
}

// The work has validated code and refresh token when it read the grant:
// reuse must not be told to somebody who guesses.

func (strategy) ValidateAuthorizeCode(context.Context, fosite.Requester, string) error { return nil }
func (strategy) ValidateRefreshToken(context.Context, fosite.Requester, string) error  { return nil }
func (strategy) ValidateAccessToken(context.Context, fosite.Requester, string) error {
	return errUnused
}

// GrantOfRefreshToken returns the grant that a refresh token of client c
// belongs to, live or not, or "" if it is none. Past generations count: who
// has one did have the family.
func (p *Provider) GrantOfRefreshToken(ctx context.Context, c clients.Client, token string) (storage.GrantID, error) {
	id, generation, tag, ok := parseRefreshToken(token)
	if !ok {
		return "", nil
	}
	st, err := p.Grants.Standing(ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", unavailable(err)
	}
	if st.Grant.Client != c.ID || !p.isRefreshToken(st.Grant, generation, tag) {
		return "", nil
	}
	return id, nil
}
