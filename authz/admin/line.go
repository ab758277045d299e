package admin

import (
	"context"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Line is a line of the audit log as operators see it: with the names that its
// identifiers have now.
type Line struct {
	audit.Line
	UserName   string `json:"user_name,omitempty"`
	ClientName string `json:"client_name,omitempty"`
}

// Names looks up, and remembers, what the identifiers in lines are called. Only
// Store is required. It is not safe for concurrent use.
type Names struct {
	Store interface {
		storage.Users
		storage.Clients
	}
	users   map[storage.UserID]string
	clients map[clients.ID]string
}

// maxNames bounds what is remembered of each kind.
const maxNames = 10_000

// Show returns what operators see of a line. A name that can't be found is left
// away.
func (n *Names) Show(ctx context.Context, l audit.Line) Line {
	return Line{l, n.user(ctx, l.User), n.client(ctx, l.Client)}
}

func (n *Names) user(ctx context.Context, id storage.UserID) string {
	name, known := n.users[id]
	if !known && id != "" {
		if u, err := n.Store.User(ctx, id); err == nil {
			name = u.Name
		}
		if n.users == nil || len(n.users) >= maxNames {
			n.users = map[storage.UserID]string{}
		}
		n.users[id] = name
	}
	return name
}

func (n *Names) client(ctx context.Context, id clients.ID) string {
	name, known := n.clients[id]
	if !known && id != "" {
		if c, err := n.Store.Client(ctx, id); err == nil {
			name = c.Name
		}
		if n.clients == nil || len(n.clients) >= maxNames {
			n.clients = map[clients.ID]string{}
		}
		n.clients[id] = name
	}
	return name
}
