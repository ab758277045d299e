// Package password hashes passwords with Argon2id (RFC 9106) and says which
// ones are fit for use (NIST SP 800-63B-4 §3.1.1).
//
// Hashing is the one expensive thing that somebody unknown can ask for, so a
// [Hasher] bounds how many hashes run and how many wait; beyond that it
// answers [ErrBusy] at once.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// Params are the cost of a hash and the bounds of how many run. The zero value
// of a field is its default.
type Params struct {
	// Memory in KiB: 65536 by default, 64 to 1048576. Below 8192 is for tests
	// and development: the command refuses it elsewhere.
	Memory uint32
	// Time is the number of passes: 3 by default, 1 to 16.
	Time uint32
	// Threads: 1 by default, 1 to 16.
	Threads uint8
	// Concurrent is how many hashes run at once: half of the processors by
	// default, but at most 4, so that a flood of logins leaves the rest of the
	// server alive and takes no more than 4 times Memory.
	Concurrent int
	// Queue is how many may wait for that: 32 by default.
	Queue int
}

// Bounds of what is taken from configuration and of what is read back from the
// store, where a damaged hash must not ask for gigabytes.
const (
	minMemory, maxMemory = 64, 1 << 20
	maxTime              = 16
	maxThreads           = 16
	saltSize, hashSize   = 16, 32
)

func (p *Params) complete() error {
	if p.Memory == 0 {
		p.Memory = 64 << 10
	}
	if p.Time == 0 {
		p.Time = 3
	}
	if p.Threads == 0 {
		p.Threads = 1
	}
	if p.Concurrent == 0 {
		p.Concurrent = min(max(1, runtime.GOMAXPROCS(0)/2), 4)
	}
	if p.Queue == 0 {
		p.Queue = 32
	}
	if p.Memory < minMemory || p.Memory > maxMemory || p.Time > maxTime || p.Threads > maxThreads || p.Concurrent < 1 || p.Queue < 0 {
		return fmt.Errorf("password: memory of %d to %d KiB, time up to %d, up to %d threads and a positive concurrency expected", minMemory, maxMemory, maxTime, maxThreads)
	}
	return nil
}

// ErrBusy says that too many hashes are running and waiting. Try again in a
// moment.
var ErrBusy = errors.New("too many logins at once")

// ErrPassword says that a password can't be one at all: it has control
// characters, invalid UTF-8, or more than MaxBytes.
var ErrPassword = errors.New("not usable as a password")

// MaxBytes is the most that a password may have, in UTF-8.
const MaxBytes = 1024

// Hasher hashes and verifies. It is safe for concurrent use.
type Hasher struct {
	params  Params
	rand    io.Reader
	running chan struct{} // a place for each hash that runs
	waiting chan struct{} // a place for each that runs or waits
	// dummy is verified when there is no account, so that it takes as long.
	dummy string
}

// New returns a Hasher; nil rand means crypto/rand.
func New(p Params, random io.Reader) (*Hasher, error) {
	if err := p.complete(); err != nil {
		return nil, err
	}
	if random == nil {
		random = rand.Reader
	}
	h := &Hasher{params: p, rand: random, running: make(chan struct{}, p.Concurrent), waiting: make(chan struct{}, p.Concurrent+p.Queue)}
	h.dummy = encode(p, make([]byte, saltSize), make([]byte, hashSize))
	return h, nil
}

// Hash returns the encoded hash of a password, with its parameters. The error
// is ErrBusy, ErrPassword or ctx's.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	prepared, err := prepare(password)
	if err != nil {
		return "", err
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(h.rand, salt); err != nil {
		return "", err
	}
	release, err := h.place(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return encode(h.params, salt, derive(h.params, prepared, salt)), nil
}

// Verify reports whether the password is the one that encoded was made from,
// and whether it should be hashed anew because the parameters have changed
// since. The empty encoded costs as much and is never right. The error is
// ErrBusy, ctx's, or says that encoded is damaged.
func (h *Hasher) Verify(ctx context.Context, password, encoded string) (ok, rehash bool, err error) {
	known := encoded != ""
	if !known {
		encoded = h.dummy
	}
	p, salt, want, err := decode(encoded)
	if err != nil {
		return false, false, err
	}
	prepared, err := prepare(password)
	if err != nil {
		prepared, known = "", false // wrong, after the same work
	}
	release, err := h.place(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	got := derive(p, prepared, salt)
	ok = subtle.ConstantTimeCompare(got, want) == 1 && known
	rehash = ok && (p.Memory != h.params.Memory || p.Time != h.params.Time || p.Threads != h.params.Threads)
	return ok, rehash, nil
}

// place waits for a place to hash in.
func (h *Hasher) place(ctx context.Context) (release func(), err error) {
	select {
	case h.waiting <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		return func() { <-h.running; <-h.waiting }, nil
	case <-ctx.Done():
		<-h.waiting
		return nil, ctx.Err()
	}
}

// prepare brings a password into the one form that is hashed: the same
// characters typed on another keyboard are the same password (RFC 8265 §4.2).
func prepare(password string) (string, error) {
	if len(password) > MaxBytes {
		return "", fmt.Errorf("%w: more than %d bytes", ErrPassword, MaxBytes)
	}
	s, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", fmt.Errorf("%w: control characters or invalid UTF-8", ErrPassword)
	}
	return s, nil
}

func derive(p Params, password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, hashSize)
}

var b64 = base64.RawStdEncoding.Strict()

// encode writes the form that the reference implementation of Argon2 reads.
func encode(p Params, salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Threads, b64.EncodeToString(salt), b64.EncodeToString(hash))
}

// decode reads what encode wrote, and nothing else.
func decode(encoded string) (p Params, salt, hash []byte, err error) {
	damaged := func(what string) (Params, []byte, []byte, error) {
		return Params{}, nil, nil, fmt.Errorf("the stored password hash is damaged (%s): set the password again", what)
	}
	parts := strings.Split(encoded, "$")
	if len(encoded) > 256 || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return damaged("its form")
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return damaged("its parameters")
	}
	var n [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		text, ok := strings.CutPrefix(costs[i], name)
		if n[i], err = strconv.ParseUint(text, 10, 32); !ok || err != nil || strconv.FormatUint(n[i], 10) != text {
			return damaged("its parameters")
		}
	}
	if n[0] < minMemory || n[0] > maxMemory || n[1] < 1 || n[1] > maxTime || n[2] < 1 || n[2] > maxThreads {
		return damaged("its parameters are out of bounds")
	}
	p = Params{Memory: uint32(n[0]), Time: uint32(n[1]), Threads: uint8(n[2])}
	if salt, err = b64.DecodeString(parts[4]); err != nil || len(salt) != saltSize {
		return damaged("its salt")
	}
	if hash, err = b64.DecodeString(parts[5]); err != nil || len(hash) != hashSize {
		return damaged("its value")
	}
	return p, salt, hash, nil
}
