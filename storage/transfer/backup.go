package transfer

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/solegate/solegate/storage"
)

// Sealer seals a file's own key; keys.Master is one.
type Sealer interface {
	Seal(purpose string, plain []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// A backup is a line that says what it is, the file's own key sealed with the
// master key, with its length in front, and the records as JSON in chunks.
// Each chunk is sealed with AES-256-GCM under the file's key; its nonce is its
// number and whether it is the last one. So none can be altered, left out, put
// elsewhere or cut off without notice.
const (
	magic     = "solegate backup 1\n"
	purpose   = "backup"
	chunkSize = 64 << 10
	maxSealed = 1 << 10
)

// ErrBackup says that a file is no backup, or is damaged.
var ErrBackup = errors.New("the file is no backup of Solegate, or it is cut off or altered: take another one")

// Backup writes everything in the store to w, sealed. The store may be in use:
// each record is whole, and what ended a session or grant before that was read
// is in the file as well, so nothing that had ended comes back alive. It
// returns how much there is.
func Backup(ctx context.Context, from storage.Store, sealer Sealer, rand io.Reader, now time.Time, w io.Writer) (Count, error) {
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand, key); err != nil {
		return Count{}, err
	}
	sealed := sealer.Seal(purpose, key)
	out := bufio.NewWriter(w)
	out.WriteString(magic)
	out.Write(binary.BigEndian.AppendUint16(nil, uint16(len(sealed))))
	out.Write(sealed)
	chunks, err := newChunks(key)
	if err != nil {
		return Count{}, err
	}
	writer := &chunkWriter{chunks: chunks, w: out}
	encoder := json.NewEncoder(writer)
	var count Count
	if err := read(ctx, from, now, func(r record) error {
		count.add(r)
		return encoder.Encode(r)
	}); err != nil {
		return count, err
	}
	if err := writer.seal(true); err != nil {
		return count, err
	}
	return count, out.Flush()
}

// Restore puts what is in a backup into an empty store. The whole file is
// checked before anything is written.
//
// Sessions and grants are left out unless the options have Sessions: those of
// an old backup may have ended since, and their spent refresh tokens would be
// good again. Without them people sign in once more.
func Restore(ctx context.Context, r io.ReadSeeker, sealer Sealer, to storage.Store, o Options) (Count, error) {
	o.complete()
	if err := parse(r, sealer, func(record) error { return nil }); err != nil {
		return Count{}, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Count{}, err
	}
	if !o.Resume {
		if err := empty(ctx, to); err != nil {
			return Count{}, err
		}
	}
	return write(ctx, to, o, func(visit func(record) error) error {
		return parse(r, sealer, func(x record) error {
			if (x.Session != nil || x.Grant != nil) && !o.Sessions {
				return nil
			}
			return visit(x)
		})
	})
}

// parse reads a backup to its end.
func parse(r io.Reader, sealer Sealer, visit func(record) error) error {
	in := bufio.NewReader(r)
	head := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(magic)]) != magic {
		return ErrBackup
	}
	size := binary.BigEndian.Uint16(head[len(magic):])
	if size > maxSealed {
		return ErrBackup
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(in, sealed); err != nil {
		return ErrBackup
	}
	key, err := sealer.Open(purpose, sealed)
	if err != nil {
		return fmt.Errorf("the backup was sealed with another master key, or is damaged: %w", err)
	}
	chunks, err := newChunks(key)
	if err != nil {
		return ErrBackup
	}
	decoder := json.NewDecoder(&chunkReader{chunks: chunks, r: in})
	decoder.DisallowUnknownFields()
	for {
		var x record
		switch err := decoder.Decode(&x); {
		case err == io.EOF:
			return nil
		case errors.Is(err, ErrBackup):
			return err
		case err != nil:
			return fmt.Errorf("%w (%w)", ErrBackup, err)
		}
		if x.empty() {
			return ErrBackup
		}
		if err := visit(x); err != nil {
			return err
		}
	}
}

// chunks seals or opens one chunk after the other.
type chunks struct {
	aead cipher.AEAD
	n    uint64
}

func newChunks(key []byte) (chunks, error) {
	block, err := aes.NewCipher(key)
	if err != nil || len(key) != 32 {
		return chunks{}, errors.New("a key of 32 bytes expected")
	}
	aead, err := cipher.NewGCM(block)
	return chunks{aead: aead}, err
}

// nonce is that of the next chunk: its number, and 1 if it is the last one.
func (c *chunks) nonce(last bool) []byte {
	nonce := make([]byte, c.aead.NonceSize())
	binary.BigEndian.PutUint64(nonce[3:], c.n)
	if last {
		nonce[11] = 1
	}
	c.n++
	return nonce
}

type chunkWriter struct {
	chunks
	w   io.Writer
	buf []byte
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(w.buf)+len(p) > chunkSize {
		take := chunkSize - len(w.buf)
		w.buf, p = append(w.buf, p[:take]...), p[take:]
		if err := w.seal(false); err != nil {
			return 0, err
		}
	}
	w.buf = append(w.buf, p...)
	return n, nil
}

// seal writes what is waiting as a chunk.
func (w *chunkWriter) seal(last bool) error {
	_, err := w.w.Write(w.aead.Seal(nil, w.nonce(last), w.buf, nil))
	w.buf = w.buf[:0]
	return err
}

type chunkReader struct {
	chunks
	r     *bufio.Reader
	plain []byte
	last  bool
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.last {
			return 0, io.EOF
		}
		sealed := make([]byte, chunkSize+r.aead.Overhead())
		n, err := io.ReadFull(r.r, sealed)
		if err != nil && err != io.ErrUnexpectedEOF {
			return 0, ErrBackup // an end without a last chunk
		}
		if _, err := r.r.Peek(1); err == io.EOF {
			r.last = true
		}
		if r.plain, err = r.aead.Open(nil, r.nonce(r.last), sealed[:n], nil); err != nil {
			return 0, ErrBackup
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}
