package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// searchFor is how long a search may take: a log of years has many lines.
const searchFor = 20 * time.Second

// whichLines are the parameters that say which lines are asked for.
var whichLines = []string{"user", "client", "session", "grant", "resource_server", "what", "since", "until"}

// lines is the query that the parameters make.
func (c *call) lines() (audit.Query, error) {
	q := audit.Query{
		User: storage.UserID(c.query.Get("user")), Client: clients.ID(c.query.Get("client")), Session: storage.SessionID(c.query.Get("session")),
		Grant: storage.GrantID(c.query.Get("grant")), ResourceServer: clients.ID(c.query.Get("resource_server")), What: c.query.Get("what"),
	}
	for name, t := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		text := c.query.Get(name)
		if text == "" {
			continue
		}
		var err error
		if *t, err = time.Parse(time.RFC3339, text); err != nil {
			return q, refusef(http.StatusBadRequest, "A time is expected as RFC 3339.", "%s", name)
		}
	}
	return q, nil
}

// number is a parameter that is the number of a line, or 0 if it is missing.
func (c *call) number(name string) (uint64, error) {
	text := c.query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, refusef(http.StatusBadRequest, "The number of a line is expected.", "%s", name)
	}
	return n, nil
}

func (a *API) searchAudit(c *call) (any, error) {
	q, err := c.lines()
	if err != nil {
		return nil, err
	}
	p, err := c.page()
	if err != nil {
		return nil, err
	}
	if q.Before, err = c.number("before"); err != nil {
		return nil, err
	}
	q.Limit = p.Limit
	ctx, cancel := context.WithTimeout(c.r.Context(), searchFor)
	defer cancel()
	found, err := audit.Search(ctx, a.Store, q)
	switch {
	case ctx.Err() != nil:
		return nil, &Problem{http.StatusServiceUnavailable, "The search took too long: say since when, or ask for less.", errors.Join(err, ctx.Err())}
	case err != nil:
		return nil, err
	}
	part, names := list[Line]{Items: []Line{}}, Names{Store: a.Store}
	for _, l := range found {
		part.Items = append(part.Items, names.Show(ctx, l))
	}
	if len(found) == q.Limit && found[0].Seq > 1 {
		part.Next = strconv.FormatUint(found[0].Seq, 10)
	}
	return part, nil
}

// followAudit streams the lines of the audit log as server-sent events: those
// after the one that is asked for, or that come, until the operator may no
// longer or hangs up.
func (a *API) followAudit(c *call) (any, error) {
	q, err := c.lines()
	if err != nil {
		return nil, err
	}
	after, err := c.number("after")
	if err != nil {
		return nil, err
	}
	if last := c.r.Header.Get("Last-Event-ID"); last != "" { // that of a stream that broke off
		if after, err = strconv.ParseUint(last, 10, 63); err != nil {
			return nil, refusef(http.StatusBadRequest, "The number of a line is expected.", "Last-Event-ID")
		}
	} else if !c.query.Has("after") {
		head, err := a.Store.AuditHead(c.r.Context())
		if err != nil {
			return nil, err
		}
		after = head.Seq
	}
	names := Names{Store: a.Store}
	return stream(func(s *sender) error {
		_, err := audit.Follow(s.ctx, a.Store, after, q, func(l audit.Line) error {
			return s.send(fmt.Sprintf("id: %d\ndata: %s", l.Seq, marshal(names.Show(s.ctx, l))))
		})
		return err
	}), nil
}
