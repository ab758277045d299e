package verify

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/solegate/solegate/keys/verify/reports"
)

// run sends the reports, every second and when a batch is full, until close is
// called or New's context has ended and the grace after it. One batch is on its
// way at a time; what comes meanwhile is added up.
func (q *reporter) run() {
	defer close(q.ended)
	defer q.abandon()
	hurried, ending := q.hurried, q.ending
	for every := reportEvery; ; {
		timer := time.NewTimer(every)
		last := false
		select {
		case <-timer.C:
		case <-q.full:
		case <-hurried: // the HTTP server still ends its requests
			hurried, every = nil, reportHurry
		case <-ending:
			last = true
		case <-q.work.Done():
			last = true
		}
		timer.Stop()
		for list := q.take(); list != nil; list = q.take() {
			if !q.deliver(reports.Batch{ID: crand.Text(), Reports: list}) {
				return
			}
		}
		if last {
			return
		}
	}
}

// abandon gives up what is still there.
func (q *reporter) abandon() {
	q.stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.left = q.stats.Waiting
	q.stats.Dropped += q.left
	q.stats.Waiting = 0
	q.waiting, q.order = nil, nil
}

// deliver sends a batch until it has arrived, or is refused, or was tried for
// long enough. It is the same batch each time, so that the issuer counts it
// once, whatever became of the answers. It reports false if there is no time
// left.
func (q *reporter) deliver(b reports.Batch) bool {
	wait, most := firstRetry, longestRetry
	hurried := q.hurried
	for began := time.Now(); ; {
		after, final, err := q.post(&b)
		switch {
		case err == nil:
			q.done(&b, true)
			if q.failing {
				q.failing = false
				q.config.Log.Info("reports reach the issuer again", "issuer", q.config.Issuer)
			}
			return true
		case q.work.Err() != nil:
			return false
		}
		if !q.failing {
			q.failing = true
			q.config.Log.Error("reports can't be sent to the issuer; trying again for ten minutes, if it did not refuse them", "issuer", q.config.Issuer, "error", err)
		}
		pause := max(wait/2+rand.N(wait/2), after)
		if final || time.Since(began)+pause > reports.Retry {
			q.done(&b, false)
			return true
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			wait = min(wait*2, most)
		case <-hurried:
			hurried, wait, most = nil, reportHurry, firstRetry
		case <-q.work.Done():
		}
		timer.Stop()
	}
}

// done counts the reports of a batch as sent or as failed.
func (q *reporter) done(b *reports.Batch, sent bool) {
	n := uint64(0)
	for i := range b.Reports {
		n += uint64(b.Reports[i].Count)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Waiting -= n
	if sent {
		q.stats.Sent += n
		q.crowded = false
	} else {
		q.stats.Failed += n
	}
}

// post sends a batch once. After an error, final says that it is of no use to
// try again, and after how long to wait at least. The error holds nothing of
// what the issuer answered but its status, and nothing secret.
func (q *reporter) post(b *reports.Batch) (after time.Duration, final bool, err error) {
	ctx, cancel := context.WithTimeout(q.work, reportTimeout)
	defer cancel()
	credential := q.config.Credential
	assertion, err := credential.assertion(q.config.Issuer, q.config.Now()) // a new one each time: it is good once
	if err != nil {
		return 0, false, err
	}
	body, err := b.Encode(assertion)
	if err != nil {
		return 0, true, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, q.config.Issuer+reports.Path, bytes.NewReader(body))
	if err != nil {
		return 0, true, err
	}
	r.Header.Set("Content-Type", "application/json")
	credential.basic(r)
	resp, err := q.client.Do(r)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxDocument) // so that the connection can be used again
	if resp.StatusCode == http.StatusNoContent {
		return 0, false, nil
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		after = min(time.Duration(seconds)*time.Second, 2*longestRetry)
	}
	final = resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusRequestEntityTooLarge
	return after, final, fmt.Errorf("%s answered %d, 204 is expected", r.URL, resp.StatusCode)
}
