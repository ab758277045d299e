package admin

import (
	"context"
	"net/http"

	"github.com/solegate/solegate/clients"
)

// Client is a client as operators see it: no hash of a secret.
type Client struct {
	clients.Client
	// Secret is there once, when it was made.
	Secret string `json:"secret,omitempty"`
}

// ShowClient returns what operators see of c, and secret, if one was made.
func ShowClient(c clients.Client, secret string) Client {
	c.AuthMethod = c.Method()
	c.SecretHash = [32]byte{} // and so it is left out
	return Client{c, secret}
}

func (a *API) listClients(c *call) (any, error) {
	p, err := c.page()
	if err != nil {
		return nil, err
	}
	all, err := a.Store.ListClients(c.r.Context(), p)
	if err != nil {
		return nil, err
	}
	return listed(all, p, func(c clients.Client) string { return string(c.ID) }, func(c clients.Client) (Client, bool) { return ShowClient(c, ""), true }), nil
}

func (a *API) showClient(c *call) (any, error) { return a.clientNow(c.r.Context(), c.client()) }

func (a *API) clientNow(ctx context.Context, id clients.ID) (any, error) {
	c, err := a.Store.Client(ctx, id)
	if err != nil {
		return nil, err
	}
	return ShowClient(c, ""), nil
}

func (a *API) disableClient(c *call) (any, error) { return a.actOnClient(c, a.Revoker.DisableClient) }
func (a *API) enableClient(c *call) (any, error)  { return a.actOnClient(c, a.Revoker.EnableClient) }

// actOnClient does it, and answers with the client. One that the configuration
// file declares is the file's: at the next start it would be as before.
func (a *API) actOnClient(c *call, act func(context.Context, clients.ID) error) (any, error) {
	ctx := context.WithoutCancel(c.r.Context())
	before, err := a.Store.Client(ctx, c.client())
	if err != nil {
		return nil, err
	}
	if before.Declared {
		return nil, refusef(http.StatusConflict, "The client is declared in the configuration file, which wins: change it there and restart the server.", "client %s is declared", before.ID)
	}
	if err := act(ctx, before.ID); err != nil {
		return nil, err
	}
	return a.clientNow(ctx, before.ID)
}
