package clients

import (
	"encoding/base32"
	"io"
	"slices"
)

// HasRedirectURI reports whether uri is registered: the same bytes. Nothing is
// normalised first (RFC 9700 §2.1).
func (c *Client) HasRedirectURI(uri string) bool {
	return slices.Contains(c.RedirectURIs, RedirectURI(uri))
}

// HasPostLogoutRedirectURI reports whether uri is registered: the same bytes.
func (c *Client) HasPostLogoutRedirectURI(uri string) bool {
	return slices.Contains(c.PostLogoutRedirectURIs, RedirectURI(uri))
}

// HasOrigin reports whether origin is registered: the same bytes.
func (c *Client) HasOrigin(origin string) bool { return slices.Contains(c.Origins, Origin(origin)) }

// HasAudience reports whether audience is registered: the same bytes.
func (c *Client) HasAudience(audience string) bool { return slices.Contains(c.Audiences, audience) }

// NewID returns a random identifier of 128 bits for a client, a resource
// server, a user or a session.
func NewID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// idEncoding makes identifiers that survive a shell, a URL and a double click.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
