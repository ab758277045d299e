package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrMasterKey says that what is stored was sealed with another master key, or
// was altered. Nothing was overwritten.
var ErrMasterKey = errors.New("the stored keys can't be opened with this master key: it is another one than they were sealed with, or they were altered; " +
	"give the server the master key that was in use before (as a previous one, if it was replaced)")

// Master seals what must not be readable in the store: AES-256-GCM with a
// random nonce, the master key's id in front. It holds the current master key
// and, while it is being replaced, the previous ones.
type Master struct {
	current  masterKey
	previous []masterKey
}

type masterKey struct {
	id   [4]byte
	aead cipher.AEAD
}

// sealedVersion is the first byte of what Seal makes.
const sealedVersion = 1

// ParseMaster reads a master key: 32 bytes in base64 (either alphabet, padded
// or not) or in hexadecimal, surrounding white space ignored. Previous keys
// still open what they sealed.
func ParseMaster(text []byte, previous ...[]byte) (Master, error) {
	var m Master
	var err error
	if m.current, err = parseMasterKey(text); err != nil {
		return Master{}, err
	}
	for _, p := range previous {
		k, err := parseMasterKey(p)
		if err != nil {
			return Master{}, fmt.Errorf("previous %w", err)
		}
		m.previous = append(m.previous, k)
	}
	return m, nil
}

func parseMasterKey(text []byte) (masterKey, error) {
	s := strings.TrimSpace(string(text))
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 32 {
		s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
		raw, err = base64.RawURLEncoding.DecodeString(s)
	}
	if err != nil || len(raw) != 32 {
		return masterKey{}, errors.New("master key: 32 bytes in base64 or hexadecimal expected; make one with: solegate key generate-master")
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return masterKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return masterKey{}, err
	}
	k := masterKey{aead: aead}
	sum := sha256.Sum256(append([]byte("solegate master key id\x00"), raw...))
	copy(k.id[:], sum[:])
	return k, nil
}

// GenerateMaster returns the text of a new master key, for a file.
func GenerateMaster(rand io.Reader) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(rand, raw[:]); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// Seal encrypts plain with the current master key. What it is for is
// authenticated with it: a sealed value does not open as another one.
func (m Master) Seal(purpose string, plain []byte) []byte {
	sealed := append([]byte{sealedVersion}, m.current.id[:]...)
	return m.current.aead.Seal(sealed, nil, plain, []byte(purpose))
}

// Open decrypts what Seal made for the same purpose, with the current or a
// previous master key. Any failure is ErrMasterKey.
func (m Master) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < 5 || sealed[0] != sealedVersion {
		return nil, ErrMasterKey
	}
	for _, k := range append([]masterKey{m.current}, m.previous...) {
		if k.aead == nil || [4]byte(sealed[1:5]) != k.id {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[5:], []byte(purpose))
		if err != nil {
			return nil, ErrMasterKey
		}
		return plain, nil
	}
	return nil, ErrMasterKey
}

// isCurrent reports whether sealed was sealed with the current master key.
func (m Master) isCurrent(sealed []byte) bool {
	return len(sealed) >= 5 && [4]byte(sealed[1:5]) == m.current.id
}
