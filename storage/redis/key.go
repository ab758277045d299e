package redis

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// The registry is in one slot, so that its scripts see all of it.
func (s *Store) clientKey(id clients.ID) string         { return s.prefix + "{r}c:" + string(id) }
func (s *Store) resourceServerKey(id clients.ID) string { return s.prefix + "{r}a:" + string(id) }
func (s *Store) clientsKey() string                     { return s.prefix + "{r}clients" }
func (s *Store) resourceServersKey() string             { return s.prefix + "{r}apis" }
func (s *Store) ringKey() string                        { return s.prefix + "{r}ring" }
func (s *Store) formatKey() string                      { return s.prefix + "{r}format" }
func (s *Store) readyKey() string                       { return s.prefix + "{r}ready" }

// Names are in as many slots as there are buckets.
const buckets = 64

func bucketOf(name string) int {
	var h uint32 = 2166136261 // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h % buckets)
}

func (s *Store) entriesKey(bucket int) string { return s.prefix + "n{" + strconv.Itoa(bucket) + "}" }
func (s *Store) namesKey(bucket int) string   { return s.prefix + "o{" + strconv.Itoa(bucket) + "}" }

// All of a person is in one slot.
func (s *Store) userKey(id storage.UserID) string  { return s.prefix + "u" + tag(id) }
func (s *Store) onlyKey(id storage.UserID) string  { return s.prefix + "w" + tag(id) }
func (s *Store) indexKey(id storage.UserID) string { return s.prefix + "i" + tag(id) }

func (s *Store) sessionKey(id storage.SessionID) string {
	u := id.User()
	return s.prefix + "s" + tag(u) + string(id[len(u):])
}

func (s *Store) grantKey(id storage.GrantID) string {
	u := id.User()
	return s.prefix + "g" + tag(u) + string(id[len(u):])
}

// Members of a user's index are the kind of record and its identifier without
// the user's.
func sessionMember(id storage.SessionID) string { return "s" + string(id[len(id.User()):]) }
func grantMember(id storage.GrantID) string     { return "g" + string(id[len(id.User()):]) }

var escapes = strings.NewReplacer("%", "%25", "}", "%7D")

// tag is the hash tag of a user. Nothing in it ends it early.
func tag(id storage.UserID) string { return "{" + escapes.Replace(string(id)) + "}" }

func (s *Store) counterKey(key string, window time.Duration, part int64) string {
	return s.prefix + "t{" + escapes.Replace(key) + "}" + strconv.FormatInt(int64(window), 36) + ":" + strconv.FormatInt(part, 36)
}

// What lives for a minute or so is spread by a tag of its own.
func (s *Store) replayKey(key [32]byte) string {
	return s.prefix + "x{" + base64.RawURLEncoding.EncodeToString(key[:]) + "}"
}

// The queue of logouts is in one slot, so that claiming sees all of it.
func (s *Store) logoutsKey() string { return s.prefix + "{l}logouts" }
func (s *Store) dueKey() string     { return s.prefix + "{l}due" }

// A person's case is with the person, the order of all of them is in one slot.
func (s *Store) caseKey(id storage.UserID) string { return s.prefix + "k" + tag(id) }
func (s *Store) casesKey() string                 { return s.prefix + "{k}cases" }
func (s *Store) casesUntilKey() string            { return s.prefix + "{k}until" }

// All events are in one stream, so that there is one order.
func (s *Store) eventsKey() string { return s.prefix + "{e}events" }

// The audit log is one chain.
func (s *Store) auditKey() string { return s.prefix + "{a}audit" }
