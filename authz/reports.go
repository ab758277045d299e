package authz

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
)

// reports takes what a registered resource server says of accounts that misuse
// it (see keys/verify/reports), and answers when it is stored and what the policy
// decided is done (see package abuse). What is not believed is no error: whoever
// has stolen an API's credential learns nothing of who has an account.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	rs, batch, err := s.reported(w, r)
	if err == nil {
		if err = s.judge.Report(r.Context(), rs, batch); err != nil {
			err = &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
		}
	}
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// reported reads the batch and authenticates the resource server that sends it.
func (s *Server) reported(w http.ResponseWriter, r *http.Request) (rs clients.ResourceServer, batch reports.Batch, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return rs, batch, oauth.Errorf(oauth.InvalidRequest, "A body of type application/json is expected.", "body of another type")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reports.MaxBytes))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		refusal := oauth.Errorf(oauth.InvalidRequest, "The body is too large.", "body of at most %d bytes expected: %w", reports.MaxBytes, err)
		refusal.Status = http.StatusRequestEntityTooLarge
		return rs, batch, refusal
	} else if err != nil { // of a connection that broke off: the batch is to come again
		return rs, batch, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The body could not be read; try again.", Cause: err}
	}
	batch, assertion, err := reports.Parse(body)
	if err != nil {
		return rs, batch, oauth.Errorf(oauth.InvalidRequest, "The reports can't be read.", "%w", err)
	}
	t := &tokenRequest{w: w, r: r, form: url.Values{}}
	if assertion != "" {
		t.form.Set("client_assertion_type", assertionType)
		t.form.Set("client_assertion", assertion)
	}
	if err = s.presented(t); err == nil {
		rs, err = s.resourceServer(t)
	}
	if err == nil {
		err = s.assertedOnce(t)
	}
	return rs, batch, err
}
