package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Type is the typ of a list's header, and MediaType that of the answer (draft
// §5.1, §8.1).
const (
	Type      = "statuslist+jwt"
	MediaType = "application/statuslist+jwt"
)

const (
	// TTL is how long a reader may keep a list before it asks again: what an API
	// that reads lists is behind one that follows the feed.
	TTL = 5 * time.Second
	// Life is how long a list counts (exp): for so long a server that can't ask
	// its store goes on with what it has signed.
	Life = time.Minute
	// fresh is how old the server's own knowledge may be, and how long it hands
	// out the same list while nothing happens.
	fresh = time.Second
	// maxKept bounds the signed lists that are kept.
	maxKept = 256
)

// ErrUnknown says that no server of this store made such a list.
var ErrUnknown = errors.New("there is no such status list")

// Source is where a [Publisher] has it from that its lists are complete: the
// feed's Hub.
type Source interface {
	// Current returns as of when everything in the store was handed to
	// [Lists.Apply]; if that is longer ago than within, it asks first.
	Current(ctx context.Context, within time.Duration) (time.Time, error)
	// Signer is the kid of the key that Sign may sign with now.
	Signer(ctx context.Context) (string, error)
}

// Publisher signs lists and keeps what it signed. It is safe for concurrent
// use: a flood of requests for a list is one signature a second, and for what
// is no list none.
type Publisher struct {
	lists  *Lists
	source Source
	sign   func(typ string, claims []byte) (string, error)
	now    func() time.Time

	none, all string // the lst of a list that is all good, and of one that has ended

	mu   sync.Mutex
	kept map[list]*kept

	// packing is held by who compresses: a compressor is a megabyte.
	packing sync.Mutex
	packed  bytes.Buffer
	zip     *zlib.Writer
}

// kept is a list that was asked for.
type kept struct {
	document atomic.Pointer[Document]
	signing  sync.Mutex
	lst      string // of signing: that of state
	state    state
}

// Document is a signed list. It is immutable.
type Document struct {
	JWS  string
	ETag string // quoted, as the header carries it

	asOf    time.Time
	expires time.Time
	state   state
	by      string // kid
}

// NewPublisher returns a Publisher of the lists. Sign signs claims with the typ
// in the header; now is the clock.
func NewPublisher(l *Lists, source Source, sign func(typ string, claims []byte) (string, error), now func() time.Time) (*Publisher, error) {
	p := &Publisher{lists: l, source: source, sign: sign, now: now, kept: map[list]*kept{}}
	var err error
	if p.zip, err = zlib.NewWriterLevel(&p.packed, zlib.BestCompression); err != nil {
		return nil, err
	}
	if p.none, err = p.pack(make([]byte, Size/8)); err != nil {
		return nil, err
	}
	p.all, err = p.pack(bytes.Repeat([]byte{0xff}, Size/8))
	return p, err
}

// claims are those of a list (draft §5.1).
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	TTL      int64  `json:"ttl"`
	List     struct {
		Bits int    `json:"bits"`
		List string `json:"lst"`
	} `json:"status_list"`
}

// Get returns the list with an identifier, as things stand: no older than a
// second. When the store can't be asked it is as old as what was signed before, as
// long as that counts. The error is ErrUnknown, or why the list can't be had now.
func (p *Publisher) Get(ctx context.Context, id string) (*Document, error) {
	of, ok := p.lists.find(id)
	if !ok {
		return nil, ErrUnknown
	}
	asOf, err := p.source.Current(ctx, fresh)
	k := p.keep(of)
	if err != nil {
		d := k.document.Load()
		switch {
		case d == nil || !p.now().Before(d.expires):
			return nil, err
		case d.state == p.lists.ended.state(of):
			return d, nil
		}
		asOf = d.asOf // what ended since, and is known, is said; all else is as old as it is
	}
	by, err := p.source.Signer(ctx)
	if err != nil {
		return nil, err
	}
	good := func(d *Document) bool {
		return d != nil && d.by == by && d.state == p.lists.ended.state(of) && !asOf.Before(d.asOf) && asOf.Sub(d.asOf) < fresh
	}
	if d := k.document.Load(); good(d) {
		return d, nil
	}
	k.signing.Lock()
	defer k.signing.Unlock()
	if d := k.document.Load(); good(d) {
		return d, nil
	}
	if err := p.fill(k, of); err != nil {
		return nil, err
	}
	c := claims{Issuer: p.lists.config.Issuer, Subject: p.lists.config.Issuer + Path + id, IssuedAt: asOf.Unix(), Expires: asOf.Add(Life).Unix(), TTL: int64(TTL / time.Second)}
	c.List.Bits, c.List.List = 1, k.lst
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	jws, err := p.sign(Type, payload)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(jws))
	d := &Document{JWS: jws, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`, asOf: asOf, expires: time.Unix(c.Expires, 0), state: k.state, by: by}
	k.document.Store(d)
	return d, nil
}

// keep returns where the list is kept.
func (p *Publisher) keep(of list) *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[of]
	if k == nil {
		if len(p.kept) >= maxKept {
			clear(p.kept)
		}
		k = &kept{}
		p.kept[of] = k
	}
	return k
}

// fill makes lst that of the list as it is now. Signing is held.
func (p *Publisher) fill(k *kept, of list) error {
	now := p.lists.ended.state(of)
	switch {
	case now.whole:
		k.lst, k.state = p.all, now
		return nil
	case now == state{}:
		k.lst, k.state = p.none, now
		return nil
	case now == k.state:
		return nil
	}
	bits, now := p.lists.ended.bits(of)
	lst, err := p.pack(bits)
	if err == nil {
		k.lst, k.state = lst, now
	}
	return err
}

// pack is the compressed byte array, in base64url (draft §4.1, §4.2).
func (p *Publisher) pack(bits []byte) (string, error) {
	p.packing.Lock()
	defer p.packing.Unlock()
	p.packed.Reset()
	p.zip.Reset(&p.packed)
	if _, err := p.zip.Write(bits); err != nil {
		return "", err
	}
	if err := p.zip.Close(); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(p.packed.Bytes()), nil
}
