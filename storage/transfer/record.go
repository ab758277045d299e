package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// record is one of its fields.
type record struct {
	Client         *clients.Client         `json:"client,omitempty"`
	ResourceServer *clients.ResourceServer `json:"resource_server,omitempty"`
	User           *storage.User           `json:"user,omitempty"`
	Session        *storage.Session        `json:"session,omitempty"`
	Grant          *storage.Grant          `json:"grant,omitempty"`
	Logout         *storage.Logout         `json:"logout,omitempty"`
	Case           *storage.Case           `json:"case,omitempty"`
	Events         []storage.Event         `json:"events,omitempty"`     // a page of them, in their order
	Audit          []storage.AuditLine     `json:"audit,omitempty"`      // likewise
	AuditAfter     storage.AuditHead       `json:"audit_after,omitzero"` // the line before those of Audit
	KeyRing        *storage.KeyRing        `json:"key_ring,omitempty"`
}

// which returns the record's name for messages, and where in c it is counted.
func (r record) which(c *Count) (string, *int64) {
	switch {
	case r.Client != nil:
		return "client " + string(r.Client.ID), &c.Clients
	case r.ResourceServer != nil:
		return "resource server " + string(r.ResourceServer.ID), &c.ResourceServers
	case r.User != nil:
		return "user " + string(r.User.ID), &c.Users
	case r.Session != nil:
		return "session " + string(r.Session.ID), &c.Sessions
	case r.Grant != nil:
		return "grant " + string(r.Grant.ID), &c.Grants
	case r.Logout != nil:
		return fmt.Sprintf("logout of session %s at client %s", r.Logout.Session, r.Logout.Client), &c.Logouts
	case len(r.Events) > 0:
		return fmt.Sprintf("events from %s on", r.Events[0].ID), &c.Events
	case r.Case != nil:
		return "case of user " + string(r.Case.User), &c.Cases
	case len(r.Audit) > 0:
		return fmt.Sprintf("audit log from line %d on", r.Audit[0].Seq), &c.Audit
	}
	return "key ring", &c.KeyRings
}

// size is how many records it is.
func (r record) size() int64 { return max(1, int64(len(r.Events)+len(r.Audit))) }

// ordered reports whether it has its place behind the one before.
func (r record) ordered() bool { return len(r.Events)+len(r.Audit) > 0 }

// empty reports whether it is none.
func (r record) empty() bool {
	return r.Client == nil && r.ResourceServer == nil && r.User == nil && r.Session == nil && r.Grant == nil && r.Logout == nil && r.Case == nil && !r.ordered() && r.KeyRing == nil
}

func (r record) String() string {
	name, _ := r.which(&Count{})
	return name
}

// put creates the record in s, with all of its state. What of events is there
// already is not added.
func put(ctx context.Context, s storage.Store, r record, there *eventIndex, now time.Time) error {
	switch {
	case r.Client != nil:
		return s.CreateClient(ctx, *r.Client)
	case r.ResourceServer != nil:
		return s.CreateResourceServer(ctx, *r.ResourceServer)
	case r.User != nil:
		return s.CreateUser(ctx, *r.User)
	case r.Session != nil:
		return s.CreateSession(ctx, *r.Session)
	case r.Grant != nil:
		return s.CreateGrant(ctx, *r.Grant)
	case r.Logout != nil:
		return putLogout(ctx, s, *r.Logout)
	case len(r.Events) > 0:
		missing, err := there.missing(ctx, s, r.Events)
		if err != nil || len(missing) == 0 {
			return err
		}
		return s.AppendEvents(ctx, missing, now)
	case r.Case != nil:
		c := *r.Case
		c.Version = 0
		return existing(s.PutCase(ctx, c))
	case len(r.Audit) > 0:
		return putAudit(ctx, s, r.AuditAfter, r.Audit)
	case r.KeyRing != nil:
		ring := *r.KeyRing
		ring.Version = 0
		return existing(s.PutKeyRing(ctx, ring))
	}
	return errors.New("an empty record")
}

// existing is storage.ErrExists where there was to be none yet.
func existing(err error) error {
	if errors.Is(err, storage.ErrConflict) {
		return storage.ErrExists
	}
	return err
}

// putLogout answers storage.ErrExists like the others: adding one that is there
// is no error.
func putLogout(ctx context.Context, s storage.Store, l storage.Logout) error {
	switch _, err := s.Logout(ctx, l.Client, l.Session); {
	case err == nil:
		return storage.ErrExists
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	return s.AddLogouts(ctx, []storage.Logout{l})
}

// get reads from s what has the identifier of r.
func get(ctx context.Context, s storage.Store, r record, there *eventIndex) (found record, err error) {
	switch {
	case r.Client != nil:
		c, e := s.Client(ctx, r.Client.ID)
		found.Client, err = &c, e
	case r.ResourceServer != nil:
		rs, e := s.ResourceServer(ctx, r.ResourceServer.ID)
		found.ResourceServer, err = &rs, e
	case r.User != nil:
		u, e := s.User(ctx, r.User.ID)
		found.User, err = &u, e
	case r.Session != nil:
		// Listed, because the session may be there before its user.
		err = storage.ErrNotFound
		e := all(ctx, func(ctx context.Context, p storage.Page) ([]storage.Session, error) {
			return s.ListSessions(ctx, r.Session.User, p)
		},
			func(x storage.Session) string { return string(x.ID) }, func(x storage.Session) error {
				if x.ID == r.Session.ID {
					found.Session, err = &x, nil
				}
				return nil
			})
		err = errors.Join(e, err)
	case r.Grant != nil:
		st, e := s.Standing(ctx, r.Grant.ID, r.Grant.Client)
		found.Grant, err = &st.Grant, e
	case r.Logout != nil:
		l, e := s.Logout(ctx, r.Logout.Client, r.Logout.Session)
		found.Logout, err = &l, e
	case len(r.Events) > 0:
		missing, e := there.missing(ctx, s, r.Events)
		if err = e; err == nil && len(missing) > 0 {
			err = storage.ErrNotFound
		}
		found.Events = r.Events
	case r.Case != nil:
		c, e := s.Case(ctx, r.Case.User)
		found.Case, err = &c, e
	case len(r.Audit) > 0:
		found.AuditAfter = r.AuditAfter
		found.Audit, err = getAudit(ctx, s, r.Audit)
	default:
		ring, e := s.KeyRing(ctx)
		found.KeyRing, err = &ring, e
	}
	return found, err
}

// same reports whether two records are the same, but for their versions.
func same(a, b record) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
