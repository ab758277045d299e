package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// followMode is a replica of an API that follows the revocation feed. Its
// argument is a file with its settings: its credential is not for arguments.
const followMode = "serve-following"

// following are the settings of a replica of the API.
type following struct {
	Issuer     string   `json:"issuer"`
	Credential string   `json:"credential"`
	Secret     string   `json:"secret"`
	Servers    []string `json:"servers"` // addresses; the first one that answers is taken
}

// What a replica answers beside its one resource.
const (
	watchPath = "/watch" // a token in the body: see watch
	statePath = "/state" // its verify.FeedState, in JSON
)

// lookEvery is how often a replica looks whether a token still passes.
const lookEvery = time.Millisecond

// serveFollowing runs a replica.
func serveFollowing(ctx context.Context, stdin io.Reader, stdout io.Writer, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var f following
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	c := verifier(f.Issuer, audience)
	c.Credential = &verify.Credential{ID: f.Credential, Secret: f.Secret}
	c.Feed = &verify.Feed{}
	c.Client = f.client()
	v, err := verify.New(ctx, c)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if err := v.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET "+statePath, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v.FeedState()) })
	mux.HandleFunc("POST "+watchPath, func(w http.ResponseWriter, r *http.Request) { watch(w, r, v) })
	mux.Handle("GET /", protect(v))
	return serve(stdin, stdout, mux)
}

// client reaches the issuer at one of its servers, as a name with several
// addresses or a load balancer does.
func (f *following) client() *http.Client {
	dialer := net.Dialer{Timeout: time.Second}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		for _, address := range f.Servers {
			if c, err = dialer.DialContext(ctx, network, address); err == nil {
				break
			}
		}
		return c, err
	}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// watch answers with a line as soon as the token in the body passes, and looks
// from then on until the verifier refuses it. When that was, and when it passed
// last, is the second line. It costs no request and waits for none, so the load
// makes it neither earlier nor later than it is.
func watch(w http.ResponseWriter, r *http.Request, v *verify.Verifier) {
	token, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		_, err = v.Verify(r.Context(), string(token))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	var s sight
	s.passed = time.Now()
	io.WriteString(w, passes)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		_, err := v.Verify(r.Context(), string(token))
		now := time.Now()
		if e, ok := errors.AsType[*verify.Error](err); ok && e.Status == http.StatusUnauthorized {
			s.refused = now
			io.WriteString(w, s.String())
			return
		}
		if err == nil {
			s.passed = now
		}
	}
}

// passes is the first line of watch.
const passes = "passes\n"

// sight is what was seen of a token: when it passed last, and when it was
// refused first.
type sight struct{ passed, refused time.Time }

func (s sight) String() string {
	return fmt.Sprintf("%d %d\n", s.passed.UnixNano(), s.refused.UnixNano())
}

func parseSight(line string) (sight, error) {
	passed, refused, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	p, err1 := strconv.ParseInt(passed, 10, 64)
	r, err2 := strconv.ParseInt(refused, 10, 64)
	return sight{time.Unix(0, p), time.Unix(0, r)}, errors.Join(err1, err2)
}

// watched is a token at a replica that looks at it.
type watched struct {
	answer *http.Response
	lines  *bufio.Reader
}

// watchAt makes the API look at a token. It returns when the token has passed
// there.
func watchAt(ctx context.Context, client *http.Client, api endpoint, token string) (*watched, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api.address+watchPath, strings.NewReader(token))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	w := &watched{resp, bufio.NewReader(resp.Body)}
	line, err := w.lines.ReadString('\n')
	if err == nil && line != passes {
		err = fmt.Errorf("the API was expected to accept the token, it says %.200q", line)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return w, nil
}

// refused waits until the API refuses the token.
func (w *watched) refused() (sight, error) {
	defer w.answer.Body.Close()
	line, err := w.lines.ReadString('\n')
	if err != nil {
		return sight{}, fmt.Errorf("the API was expected to refuse the token: %w", err)
	}
	return parseSight(line)
}
