package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/internal/strict"
	"github.com/solegate/solegate/keys/verify/reports"
)

// errAnew marks what can't be explained by a connection that was lost.
var errAnew = errors.New("the feed must be read anew")

// errGone is the answer 410.
var errGone = errors.New("the issuer can't go on from the cursor")

// answerError is an answer that is no part of the feed.
type answerError struct {
	address string
	status  int
	hint    string
	after   time.Duration // Retry-After
}

// Error returns what was expected, what came, and what to do.
func (e *answerError) Error() string {
	return fmt.Sprintf("%s answered %d, 200 is expected%s", e.address, e.status, e.hint)
}

// follow reads the feed from where it was left: the snapshot to its end, then
// the stream from there on. It returns why that ended, never nil.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A connection that stays and brings nothing looks like one where nothing
	// happens.
	watch := time.AfterFunc(f.stall, func() {
		cancel(fmt.Errorf("nothing new was said within %s; are the clock here and the issuer's more than %s apart, or does a proxy hold back what is streamed?", f.stall, f.config.Leeway))
	})
	defer watch.Stop()
	f.mu.Lock()
	f.cut = cancel
	f.mu.Unlock()
	err := f.document(ctx, func() { watch.Reset(f.stall) })
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, errAnew) {
		return cause
	}
	return err
}

// document reads one document after the other; alive is called for each that
// says something new.
func (f *follower) document(ctx context.Context, alive func()) error {
	if !f.whole || f.endpoints == nil {
		// Again each time: a server that was updated has a feed now.
		m, err := f.keys.discover(ctx)
		if err != nil {
			return err
		}
		f.asked.at(m.Introspection)
		if m.Feed == "" {
			return fmt.Errorf("the issuer's metadata has no %s; update the server, or unset Config.Feed", feed.MetadataName)
		}
		if err := f.issuers(m.Feed); err != nil {
			return err
		}
		f.endpoints = m
	}
	for !f.whole {
		m, err := f.page(ctx)
		if errors.Is(err, errGone) {
			return fmt.Errorf("%w: %w", errAnew, err)
		}
		if err != nil {
			return err
		}
		if err := f.take(m); err != nil {
			return err
		}
		alive()
		f.whole = !m.More
		if f.whole && f.complete(m.IssuedAt) {
			f.readOnce()
		}
	}
	resp, err := f.post(ctx, f.endpoints.Feed, feed.StreamMediaType)
	if err != nil {
		// Too far behind for a stream. A snapshot from here may do, else one
		// from the start.
		f.whole = !errors.Is(err, errGone)
		return err
	}
	defer resp.Body.Close()
	stream := feed.NewReader(resp.Body)
	for {
		jws, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the stream ended")
		case err != nil && ctx.Err() == nil && strings.HasPrefix(err.Error(), "feed: "):
			return fmt.Errorf("%w: %w", errAnew, err)
		case err != nil:
			return err
		}
		m, err := f.open(ctx, jws, feed.EventType, feed.HeartbeatType)
		if err != nil {
			return err
		}
		if err := f.take(m); err != nil {
			return err
		}
		// Only a heartbeat says that there is nothing else.
		if len(m.Events) > 0 {
			alive()
		} else if f.complete(m.IssuedAt) {
			alive()
			f.readOnce()
		}
	}
}

// take applies a document that follows upon the last one.
func (f *follower) take(m *feed.Message) error {
	to, err := m.Follow(f.at)
	if err != nil {
		// Nobody who is honest repeats or leaves out anything in one stream.
		return fmt.Errorf("%w: %w", errAnew, err)
	}
	f.apply(m)
	f.moveTo(to)
	return nil
}

// page fetches the snapshot's page after the position.
func (f *follower) page(ctx context.Context) (*feed.Message, error) {
	resp, err := f.post(ctx, f.endpoints.Feed+feed.SnapshotPath, feed.SnapshotMediaType)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	jws, err := io.ReadAll(io.LimitReader(resp.Body, feed.MaxSnapshot+1))
	switch {
	case err != nil:
		return nil, err
	case len(jws) > feed.MaxSnapshot:
		return nil, fmt.Errorf("%w: a page of the snapshot has more than %d bytes", errAnew, feed.MaxSnapshot)
	}
	return f.open(ctx, string(jws), feed.SnapshotType)
}

// issuers refuses an address that is not at the issuer's own origin: the
// credential goes nowhere else, whatever the metadata says.
func (f *follower) issuers(address string) error {
	u, err := url.Parse(address)
	issuer, _ := url.Parse(f.config.Issuer)
	if err != nil || u.Scheme != issuer.Scheme || u.Host != issuer.Host || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the issuer's metadata names %.200q, an address at %s://%s is expected", address, issuer.Scheme, issuer.Host)
	}
	return nil
}

// post asks for what comes after the position.
func (f *follower) post(ctx context.Context, address, media string) (*http.Response, error) {
	resp, err := f.send(ctx, address, media, url.Values{feed.CursorParameter: {string(f.at)}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusGone {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %q", errGone, f.at)
	}
	return resp, expect(resp, address, media)
}

// expect closes an answer that is not what was asked for.
func expect(resp *http.Response, address, media string) error {
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		e := &answerError{address: address, status: resp.StatusCode}
		switch {
		case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
			e.hint = "; is Config.Credential that of a registered resource server for this audience?"
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			e.hint = "; redirects are not followed"
		}
		if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
			e.after = time.Duration(seconds) * time.Second
		}
		return e
	}
	if got, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || got != media {
		resp.Body.Close()
		return fmt.Errorf("%s answered with %.100q, %s is expected", address, resp.Header.Get("Content-Type"), media)
	}
	return nil
}

// send sends a form to the issuer with the API's credential. The address was
// looked at by issuers.
func (f *follower) send(ctx context.Context, address, media string, form url.Values) (*http.Response, error) {
	c := f.config.Credential
	assertion, err := c.assertion(f.config.Issuer, f.config.Now())
	if err != nil {
		return nil, err
	}
	if assertion != "" {
		form.Set("client_assertion_type", reports.AssertionType)
		form.Set("client_assertion", assertion)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	c.basic(r)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", media)
	r.Header.Set("Accept-Encoding", "identity") // what is compressed comes in blocks, and late
	return f.client.Do(r)
}

// open verifies a document as tokens are: by a key of the issuer and that key's
// algorithm, for this issuer and this audience.
func (f *follower) open(ctx context.Context, jws string, types ...string) (*feed.Message, error) {
	refused := func(err error) (*feed.Message, error) {
		if e, ok := errors.AsType[*Error](err); ok {
			err = e.Cause
		}
		return nil, fmt.Errorf("%w: a document of the feed is refused: %w", errAnew, err)
	}
	parts, err := strict.Compact(jws)
	if err != nil {
		return refused(err)
	}
	var h header
	if err := object(parts.Header, h.member); err != nil {
		return refused(err)
	}
	switch {
	case !slices.Contains(types, h.typ):
		return refused(fmt.Errorf("typ is %.40q, one of %q is expected", h.typ, types))
	case !slices.Contains(f.config.Algorithms, h.algorithm):
		return refused(fmt.Errorf("the algorithm %.20q is not allowed", h.algorithm))
	}
	// A key that has leaked must not say that nothing happened.
	if _, ok := f.set.find(f.set.mark(feed.Key, h.keyID)); ok {
		return refused(fmt.Errorf("the key %.100q was revoked", h.keyID))
	}
	keys, err := f.keys.current()
	if err != nil || keys.byID[h.keyID] == nil {
		// A new key: it is asked for at once, whatever tokens with made-up keys
		// have used up.
		if err := f.keys.refresh(ctx); err != nil {
			return nil, fmt.Errorf("a document of the feed is signed by %.100q, and the issuer's keys can't be fetched: %w", h.keyID, err)
		}
		if keys, err = f.keys.current(); err != nil {
			return nil, err
		}
	}
	k := keys.byID[h.keyID]
	if k == nil {
		// It may be on its way. The position stays, so nothing is lost.
		return nil, fmt.Errorf("a document of the feed is signed by %.100q, which is no key of the issuer", h.keyID)
	}
	if k.algorithm != h.algorithm || !strict.Verify(k.algorithm, k.public, parts.Signed, parts.Signature) {
		return refused(errors.New("the signature is wrong"))
	}
	m, err := feed.Parse(h.typ, parts.Payload, f.config.Issuer, f.config.Audience)
	if err != nil {
		return refused(err)
	}
	return m, nil
}
