package storage

import (
	"encoding/base32"
	"io"
	"strings"
)

// Identifiers are hierarchical: a SessionID is its UserID, a dot and something
// random, a GrantID its SessionID, a dot and something random. So a store that
// is spread over machines knows from an identifier alone where a person's
// records are, keeps them together, and reads them in one trip.

// NewSessionID returns an identifier for a new session of u. It reads 64
// random bits; a store refuses the second of two that are the same.
func NewSessionID(u UserID, rand io.Reader) (SessionID, error) {
	part, err := newPart(rand)
	return SessionID(u) + SessionID(part), err
}

// NewGrantID returns an identifier for a new grant of s. It reads 64 random
// bits.
func NewGrantID(s SessionID, rand io.Reader) (GrantID, error) {
	part, err := newPart(rand)
	return GrantID(s) + GrantID(part), err
}

var partEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newPart(rand io.Reader) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	return "." + partEncoding.EncodeToString(b[:]), nil
}

// User returns whose session it is, or "" if id is no session's identifier.
func (id SessionID) User() UserID { return UserID(parent(string(id))) }

// Session returns the session that the grant came of, or "" if id is no
// grant's identifier.
func (id GrantID) Session() SessionID { return SessionID(parent(string(id))) }

// User returns whose grant it is, or "" if id is no grant's identifier.
func (id GrantID) User() UserID { return id.Session().User() }

func parent(id string) string { return id[:max(strings.LastIndexByte(id, '.'), 0)] }

// Place is a place in a Token Status List (draft-ietf-oauth-status-list-21 §6.2).
// The zero one is none.
type Place struct {
	// List names the list; package authz/statuslist makes it.
	List  string `json:"list"`
	Index uint32 `json:"index"`
}
