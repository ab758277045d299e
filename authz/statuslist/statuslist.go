// Package statuslist says which access tokens have died, for APIs whose library
// knows Token Status Lists (draft-ietf-oauth-status-list-21): a token names a
// place in a list, and the list has a bit there.
//
// [Lists.Place] gives each grant a place, [Lists.Claim] is what its tokens say
// of it, [Lists.Apply] takes what the server's feed reads from the store, and a
// [Publisher] signs what comes of it.
//
// # Nothing is stored
//
// A list is made by one process, in its memory, for one client and that
// client's epoch: random, so no two processes ever share one, and no place is
// given twice. Its identifier, which is in the tokens, says whose it is and has
// a MAC, so every server of the store knows a list from its identifier alone,
// also those of a process that is long gone, and what was made up costs nobody
// anything. All places are good but those that an event has named; an event of a
// client ends all lists of its earlier epochs. Events live as long as the
// tokens that they end.
package statuslist

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
	"sync"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Size is how many places a list has: 32 KiB of bits, which take some sixty
// bytes while all are good.
const Size = 1 << indexBits

// Path is where the lists are, below the issuer.
const Path = "/status/"

// Config is what [Lists] are made of. Issuer and Key are required.
type Config struct {
	Issuer string
	// Key is secret, and the same at every server of the store.
	Key [32]byte
	// Rand makes lists; nil means crypto/rand.
	Rand io.Reader
}

// Lists gives out places and knows which of them have ended. It is safe for
// concurrent use.
type Lists struct {
	config Config

	// mu guards open: the list of each client that places are given from.
	mu   sync.Mutex
	open map[clients.ID]*open

	ended ended
}

// New returns Lists that know of no end yet.
func New(c Config) *Lists {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return &Lists{config: c, open: map[clients.ID]*open{}, ended: ended{clients: map[tag]end{}, lists: map[string]*marks{}}}
}

// open is a list that has places left.
type open struct {
	name  string
	epoch uint64
	order [32]byte // decides in which order its places are given
	given uint32
}

// Place returns a place that nobody had, in a list of the client at an epoch.
// It is the zero one if the client has begun a later epoch, by what this process
// has seen: whatever is made for an earlier one is dead.
func (l *Lists) Place(client clients.ID, epoch uint64) (storage.Place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.open[client]
	if o != nil && epoch < o.epoch {
		return storage.Place{}, nil
	}
	if o == nil || epoch > o.epoch || o.given == Size {
		o = &open{epoch: epoch}
		var name [nameSize]byte
		if _, err := io.ReadFull(l.config.Rand, name[:]); err != nil {
			return storage.Place{}, err
		}
		if _, err := io.ReadFull(l.config.Rand, o.order[:]); err != nil {
			return storage.Place{}, err
		}
		o.name = b64.EncodeToString(name[:])
		// A client's identifier may be part of a whole request.
		l.open[clients.ID(strings.Clone(string(client)))] = o
	}
	p := storage.Place{List: o.name, Index: o.index(o.given)}
	o.given++
	return p, nil
}

const (
	indexBits = 18
	halfBits  = indexBits / 2
	rounds    = 6
)

// index is the nth place: a permutation of all of them, so that an index says
// nothing of how many there were before (draft §12.4). It is a Feistel network,
// which needs no memory for what is given.
func (o *open) index(n uint32) uint32 {
	const mask = 1<<halfBits - 1
	left, right := n>>halfBits&mask, n&mask
	var in [len(o.order) + 3]byte
	copy(in[:], o.order[:])
	for round := range byte(rounds) {
		in[len(o.order)] = round
		binary.BigEndian.PutUint16(in[len(o.order)+1:], uint16(right))
		sum := sha256.Sum256(in[:])
		left, right = right, left^uint32(binary.BigEndian.Uint16(sum[:]))&mask
	}
	return left<<halfBits | right
}

// A list's identifier is, in base64url,
//
//	name | tag of the client | epoch | MAC over all before
//
// A tag tells clients apart and says nothing of them.
const (
	nameSize  = 9
	tagSize   = 8
	epochSize = 8
	macSize   = 11
	idSize    = nameSize + tagSize + epochSize + macSize
)

type tag [tagSize]byte

// b64 refuses non-canonical spellings: a list has one address.
var b64 = base64.RawURLEncoding.Strict()

// list is what an identifier says.
type list struct {
	name   string
	client tag
	epoch  uint64
}

func (l *Lists) tagOf(client clients.ID) tag {
	m := hmac.New(sha256.New, l.config.Key[:])
	m.Write([]byte("client\x00"))
	m.Write([]byte(client))
	return tag(m.Sum(nil)[:tagSize])
}

func (l *Lists) mac(head []byte) []byte {
	m := hmac.New(sha256.New, l.config.Key[:])
	m.Write([]byte("list\x00"))
	m.Write(head)
	return m.Sum(nil)[:macSize]
}

// Claim is the claim status of an access token (draft §6.1).
type Claim struct {
	List Reference `json:"status_list"`
}

// Reference says where the bit of a token is (draft §6.2).
type Reference struct {
	Index uint32 `json:"idx"`
	URI   string `json:"uri"`
}

// Claim returns what the tokens of a place say, that was given to the client at
// the epoch, or nil for no place.
func (l *Lists) Claim(p storage.Place, client clients.ID, epoch uint64) *Claim {
	name, err := b64.DecodeString(p.List)
	if err != nil || len(name) != nameSize {
		return nil
	}
	id := make([]byte, 0, idSize)
	id = append(id, name...)
	of := l.tagOf(client)
	id = append(id, of[:]...)
	id = binary.BigEndian.AppendUint64(id, epoch)
	id = append(id, l.mac(id)...)
	return &Claim{Reference{p.Index, l.config.Issuer + Path + b64.EncodeToString(id)}}
}

// PlaceOf returns the place that the claim of a token of ours names, or the
// zero one.
func (l *Lists) PlaceOf(c *Claim) storage.Place {
	if c == nil {
		return storage.Place{}
	}
	id, found := strings.CutPrefix(c.List.URI, l.config.Issuer+Path)
	of, ok := l.find(id)
	if !found || !ok || c.List.Index >= Size {
		return storage.Place{}
	}
	return storage.Place{List: of.name, Index: c.List.Index}
}

// find takes an identifier apart that a server of this store made.
func (l *Lists) find(id string) (of list, ok bool) {
	if len(id) != b64.EncodedLen(idSize) {
		return list{}, false
	}
	// The decoder skips line breaks: what has them is shorter, and not ours.
	raw, err := b64.DecodeString(id)
	if err != nil || len(raw) != idSize || !hmac.Equal(raw[idSize-macSize:], l.mac(raw[:idSize-macSize])) {
		return list{}, false
	}
	return list{
		name:   b64.EncodeToString(raw[:nameSize]),
		client: tag(raw[nameSize : nameSize+tagSize]),
		epoch:  binary.BigEndian.Uint64(raw[nameSize+tagSize:]),
	}, true
}
