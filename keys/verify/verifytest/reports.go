package verifytest

import (
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/solegate/solegate/keys/verify/reports"
)

// received are the reports that an issuer has.
type received struct {
	mu      sync.Mutex
	batches map[string]bool
	list    []reports.Report
}

// Reports returns the reports that arrived, the oldest first. APIs send theirs
// within a second; [verify.Verifier.Close] sends them at once. They are taken
// from everybody who has any credential.
//
// [verify.Verifier.Close]: https://pkg.go.dev/github.com/solegate/solegate/keys/verify#Verifier.Close
func (i *Issuer) Reports() []reports.Report {
	i.received.mu.Lock()
	defer i.received.mu.Unlock()
	return slices.Clone(i.received.list)
}

// ServeHTTP takes reports as package reports promises it.
func (c *received) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reports.MaxBytes))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	b, assertion, err := reports.Parse(raw)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if _, _, basic := r.BasicAuth(); basic == (assertion != "") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.batches[b.ID] {
		c.batches[b.ID] = true
		c.list = append(c.list, b.Reports...)
	}
	w.WriteHeader(http.StatusNoContent)
}
