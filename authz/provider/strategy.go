package provider

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// A code and a refresh token are made, not stored:
//
//	code          = "sgc_" grant id "." base64url( tag )
//	refresh token = "sgr_" grant id "." base64url( generation | tag )
//	tag           = HMAC-SHA-256( token key, kind | generation | salt | grant id )
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

	generationSize = 8
	tagSize        = sha256.Size
)

// strategy makes the tokens that fosite hands out.
type strategy struct{ p *Provider }

var _ oauth2.CoreStrategy = strategy{}

// b64 refuses non-canonical spellings: one token, one string.
var b64 = base64.RawURLEncoding.Strict()

// newGrantID returns the id of a new grant of a session, and its salt.
func (p *Provider) newGrantID(session storage.SessionID) (id storage.GrantID, salt [16]byte, err error) {
	if _, err := io.ReadFull(p.Rand, salt[:]); err != nil {
		return "", salt, err
	}
	id, err = storage.NewGrantID(session, p.Rand)
	return id, salt, err
}

func (p *Provider) tag(prefix string, g storage.Grant, generation uint64) []byte {
	m := hmac.New(sha256.New, p.tokenKey[:])
	buf := make([]byte, 0, 128)
	buf = append(buf, prefix...) // of fixed length, like all before the id
	buf = binary.BigEndian.AppendUint64(buf, generation)
	buf = append(buf, g.Salt[:]...)
	buf = append(buf, g.ID...)
	m.Write(buf)
	return m.Sum(nil)
}

func (p *Provider) newCode(g storage.Grant) string {
	return codePrefix + string(g.ID) + "." + b64.EncodeToString(p.tag(codePrefix, g, 0))
}

func (p *Provider) newRefreshToken(g storage.Grant, generation uint64) string {
	proof := make([]byte, generationSize, generationSize+tagSize)
	binary.BigEndian.PutUint64(proof, generation)
	return refreshPrefix + string(g.ID) + "." + b64.EncodeToString(append(proof, p.tag(refreshPrefix, g, generation)...))
}

func (p *Provider) isCode(g storage.Grant, tag []byte) bool {
	return hmac.Equal(tag, p.tag(codePrefix, g, 0))
}

func (p *Provider) isRefreshToken(g storage.Grant, generation uint64, tag []byte) bool {
	return hmac.Equal(tag, p.tag(refreshPrefix, g, generation))
}

// parseCode takes a code apart. It says nothing about whether it is one.
func parseCode(s string) (id storage.GrantID, tag []byte, ok bool) {
	return parse(s, codePrefix, tagSize)
}

// parseRefreshToken takes a refresh token apart. It says nothing about
// whether it is one.
func parseRefreshToken(s string) (id storage.GrantID, generation uint64, tag []byte, ok bool) {
	id, b, ok := parse(s, refreshPrefix, generationSize+tagSize)
	if !ok {
		return "", 0, nil, false
	}
	return id, binary.BigEndian.Uint64(b), b[generationSize:], true
}

// maxGrantID bounds what is looked up for whoever asks.
const maxGrantID = 256

func parse(s, prefix string, size int) (id storage.GrantID, proof []byte, ok bool) {
	s, ok = strings.CutPrefix(s, prefix)
	end := len(s) - b64.EncodedLen(size) - 1
	if !ok || end < 1 || end > maxGrantID || s[end] != '.' {
		return "", nil, false
	}
	id = storage.GrantID(s[:end])
	// The decoder skips line breaks: what has them is shorter, and not ours.
	proof, err := b64.DecodeString(s[end+1:])
	return id, proof, err == nil && len(proof) == size && id.User() != ""
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
	if w.grant.ID, w.grant.Salt, err = s.p.newGrantID(w.authorization.Session.ID); err != nil {
		return "", "", err
	}
	return s.p.newCode(w.grant), string(w.grant.ID), nil
}

func (s strategy) GenerateRefreshToken(ctx context.Context, _ fosite.Requester) (string, string, error) {
	w := workOf(ctx)
	g := w.standing.Grant
	// After a redemption the generation is 1, after a rotation the next one;
	// for a client that asks again it is the one that is live already, and a
	// confidential client's stays.
	generation := w.generation + 1
	if w.client.Confidential() && w.form.Get("grant_type") == oauth.RefreshToken {
		generation = w.generation
	}
	return s.p.newRefreshToken(g, generation), string(g.ID), nil
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
	st, err := p.Grants.Standing(ctx, id, c.ID)
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
