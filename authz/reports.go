package authz

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// reports takes what a registered resource server says of accounts that misuse
// it (see keys/verify/reports), and writes it into the audit log: who, with
// which app, in which login, from where, when and how often. It is evidence and
// nothing more: what becomes of an account, an operator decides.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	rs, batch, err := s.reported(w, r)
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	// A batch comes again when its answer was lost: it is written down once.
	key := sha256.Sum256([]byte("reports\x00" + string(rs.ID) + "\x00" + batch.ID))
	err = s.Store.Once(r.Context(), key, s.Now(), s.Now().Add(reports.Remember))
	switch {
	case errors.Is(err, storage.ErrExists):
	case err != nil:
		s.refuseJSON(w, r, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err})
		return
	default:
		for _, one := range batch.Reports {
			s.audit.Record(r.Context(), evidence(rs, one))
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// reported reads the batch and authenticates the resource server that sends it.
func (s *Server) reported(w http.ResponseWriter, r *http.Request) (rs clients.ResourceServer, batch reports.Batch, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return rs, batch, oauth.Errorf(oauth.InvalidRequest, "A body of type application/json is expected.", "body of another type")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reports.MaxBytes))
	if err != nil {
		refusal := oauth.Errorf(oauth.InvalidRequest, "The body is too large or could not be read.", "body of at most %d bytes expected: %w", reports.MaxBytes, err)
		refusal.Status = http.StatusRequestEntityTooLarge
		return rs, batch, refusal
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

// evidence is a report as the audit log has it.
func evidence(rs clients.ResourceServer, r reports.Report) audit.Event {
	e := audit.Event{
		What: "account reported", ResourceServer: rs.ID,
		Client: clients.ID(r.Client), User: storage.UserID(r.Subject), Session: storage.SessionID(r.Session),
		Reason: fmt.Sprintf("%s: %s, %d times from %s to %s", r.Kind, r.Reason, r.Count, r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339)),
		JKT:    r.Key,
	}
	if len(r.Addresses) > 0 {
		e.Address, e.OtherAddresses = r.Addresses[0], r.Addresses[1:]
	}
	return e
}
