// Package reports is the wire format in which APIs tell the authorization
// server which accounts exceed their limits or otherwise abuse them. Both sides
// use it: package verify writes it, the server's endpoint reads it.
//
// An API sends a [Batch] by POST to the issuer's address with [Path] appended,
// as application/json:
//
//	{"id": "kJ3…", "reports": [{
//		"subject": "…", "client": "…", "session": "…", "key": "…",
//		"kind": "limit", "reason": "orders", "count": 42,
//		"first": 1800000000, "last": 1800000009, "addresses": ["192.0.2.1"]
//	}]}
//
// It authenticates as the registered resource server that it is: by HTTP Basic
// (client_secret_basic), or by the members client_assertion_type and
// client_assertion in the same object (private_key_jwt, RFC 7521 §4.2).
//
// # What the server promises
//
//   - It authenticates before it believes anything; what a resource server says
//     is evidence about its own audience and no other's.
//   - It answers 204 when the batch is stored and what its policy decided is
//     done, and also for a batch whose id this resource server has sent before:
//     what is in it is not counted again. It remembers ids for [Remember] at
//     least.
//   - It answers 400 for what [Parse] refuses, and 413 for more than [MaxBytes]:
//     nobody sends these again. After any other answer, and after none, the
//     same batch comes again with the same id.
//   - With 429 or 503 it may say by Retry-After, in seconds, when.
//
// # What the API promises
//
// A batch is never changed once it was sent, and is not sent any more [Retry]
// after the first time. Reports of one account for one reason are added up:
// Count of them between First and Last.
package reports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// Path is where reports go, below the issuer.
const Path = "/reports"

// Bounds of a batch, and how long it is sent again and remembered.
const (
	MaxBytes     = 512 << 10 // of the body
	MaxReports   = 100
	MaxAddresses = 8
	MaxCount     = 1_000_000_000
	Retry        = 10 * time.Minute
	Remember     = time.Hour

	maxIdentifier = 256 // bytes of a subject, a client, a session
	maxReason     = 64
	minID, maxID  = 16, 64
	maxAssertion  = 8 << 10
	latest        = 253402300799 // the year 9999, in Unix seconds
)

// AssertionType is the client_assertion_type of private_key_jwt (RFC 7523 §2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Kind is who or what found that an account misbehaves.
type Kind string

const (
	// Limit is a limit of the API's that was exceeded; the reason is its name.
	Limit Kind = "limit"
	// Judgement is the API's own; the reason is its word for it.
	Judgement Kind = "judgement"
)

// Batch is what is sent at once.
type Batch struct {
	// ID is random: 16 to 64 characters of base64url.
	ID      string
	Reports []Report // 1 to MaxReports
}

// Report says what an account did, as an API saw it.
type Report struct {
	Subject   string       // who
	Client    string       // with which app
	Session   string       // in which login; "" if the token named none
	Key       string       // thumbprint of the key that the token was bound to; "" if to none
	Kind      Kind         // found how
	Reason    string       // of these letters: see ValidReason
	Count     int          // how often, 1 to MaxCount
	First     time.Time    // when first and last, in whole seconds of the API's clock
	Last      time.Time    //
	Addresses []netip.Addr // where from: the first MaxAddresses different ones
}

// ValidReason reports whether a reason can be sent: 1 to 64 characters of
// printable ASCII without quotes and backslashes.
func ValidReason(reason string) bool {
	return reason != "" && len(reason) <= maxReason && !strings.ContainsFunc(reason, func(r rune) bool {
		return r < ' ' || r > '~' || r == '"' || r == '\\'
	})
}

// Valid returns nil if the report can be sent, or what is wrong with it.
func (r *Report) Valid() error {
	for _, x := range []struct{ name, value string }{{"subject", r.Subject}, {"client", r.Client}, {"session", r.Session}} {
		switch {
		case x.value == "" && x.name != "session":
			return errors.New(x.name + " is missing")
		case len(x.value) > maxIdentifier:
			return fmt.Errorf("%s has %d bytes, at most %d are expected", x.name, len(x.value), maxIdentifier)
		case !utf8.ValidString(x.value) || strings.ContainsFunc(x.value, func(r rune) bool { return !unicode.IsPrint(r) }):
			return errors.New(x.name + " has characters that can't be printed")
		}
	}
	switch {
	case r.Key != "" && !dpop.ValidThumbprint(r.Key):
		return errors.New("key is no SHA-256 thumbprint")
	case r.Kind != Limit && r.Kind != Judgement:
		return fmt.Errorf("kind is %.20q, limit or judgement is expected", r.Kind)
	case !ValidReason(r.Reason):
		return fmt.Errorf("reason is no text of 1 to %d plain characters", maxReason)
	case r.Count < 1 || r.Count > MaxCount:
		return fmt.Errorf("count is %d, 1 to %d are expected", r.Count, MaxCount)
	case r.First.Unix() < 1 || r.Last.Unix() > latest || r.Last.Before(r.First):
		return errors.New("first and last are no times, or not in this order")
	case len(r.Addresses) > MaxAddresses:
		return fmt.Errorf("there are %d addresses, at most %d are expected", len(r.Addresses), MaxAddresses)
	}
	for i, a := range r.Addresses {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return errors.New("an address is none, or is written in another way than the usual one")
		}
		for _, before := range r.Addresses[:i] {
			if a == before {
				return errors.New("an address is there twice")
			}
		}
	}
	return nil
}

func (b *Batch) valid() error {
	switch {
	case len(b.ID) < minID || len(b.ID) > maxID || strings.ContainsFunc(b.ID, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}):
		return fmt.Errorf("id is no %d to %d characters of base64url", minID, maxID)
	case len(b.Reports) == 0 || len(b.Reports) > MaxReports:
		return fmt.Errorf("there are %d reports, 1 to %d are expected", len(b.Reports), MaxReports)
	}
	for i := range b.Reports {
		if err := b.Reports[i].Valid(); err != nil {
			return fmt.Errorf("report %d: %w", i, err)
		}
	}
	return nil
}

// wire is a Report as it is written.
type wire struct {
	Subject   string       `json:"subject"`
	Client    string       `json:"client"`
	Session   string       `json:"session,omitempty"`
	Key       string       `json:"key,omitempty"`
	Kind      Kind         `json:"kind"`
	Reason    string       `json:"reason"`
	Count     int          `json:"count"`
	First     int64        `json:"first"`
	Last      int64        `json:"last"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Encode writes the batch as a request's body, with a client assertion if there
// is one. It fails if Parse would refuse it. Do not log it.
func (b *Batch) Encode(assertion string) ([]byte, error) {
	if err := b.valid(); err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	out := struct {
		ID            string `json:"id"`
		Reports       []wire `json:"reports"`
		AssertionType string `json:"client_assertion_type,omitempty"`
		Assertion     string `json:"client_assertion,omitempty"`
	}{ID: b.ID, Assertion: assertion}
	if assertion != "" {
		out.AssertionType = AssertionType
	}
	for _, r := range b.Reports {
		out.Reports = append(out.Reports, wire{r.Subject, r.Client, r.Session, r.Key, r.Kind, r.Reason, r.Count, r.First.Unix(), r.Last.Unix(), r.Addresses})
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // so that nothing is longer than MaxBytes
	if err := e.Encode(out); err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	return body.Bytes(), nil
}

// Parse reads a request's body: the batch, and the client assertion that came
// with it or "". Nothing is believed of either, and the caller authenticates.
// Members that are not known are left alone, so that an API may be newer than
// the server; one that stands twice, in any case, is refused. The error is for
// the log.
func Parse(body []byte) (b Batch, assertion string, err error) {
	if len(body) > MaxBytes {
		return Batch{}, "", fmt.Errorf("reports: the body has %d bytes, at most %d are expected", len(body), MaxBytes)
	}
	var kind string
	err = strict.Object(bytes.Trim(body, " \t\r\n"), func(name, value string) (err error) {
		switch name {
		case "id":
			b.ID, err = strict.Text(value)
		case "client_assertion_type":
			kind, err = strict.Text(value)
		case "client_assertion":
			assertion, err = strict.Text(value)
		case "reports":
			b.Reports, err = parseReports(value)
		}
		return named(name, err)
	})
	switch {
	case err != nil:
	case (assertion == "") != (kind == ""):
		err = errors.New("client_assertion and client_assertion_type go together")
	case kind != "" && kind != AssertionType:
		err = fmt.Errorf("client_assertion_type is not %s", AssertionType)
	case len(assertion) > maxAssertion:
		err = fmt.Errorf("client_assertion has %d bytes, at most %d are expected", len(assertion), maxAssertion)
	default:
		err = b.valid()
	}
	if err != nil {
		return Batch{}, "", fmt.Errorf("reports: %w", err)
	}
	return b, assertion, nil
}

func named(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("%.40s: %w", name, err)
	}
	return err
}

func parseReports(value string) ([]Report, error) {
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(value), &list); err != nil || value[0] != '[' {
		return nil, errors.New("a list is expected")
	}
	if len(list) > MaxReports {
		return nil, fmt.Errorf("there are %d, at most %d are expected", len(list), MaxReports)
	}
	out := make([]Report, len(list))
	for i, raw := range list {
		if err := strict.Object(raw, out[i].member); err != nil {
			return nil, fmt.Errorf("report %d: %w", i, err)
		}
	}
	return out, nil
}

// member takes a member of a report.
func (r *Report) member(name, value string) (err error) {
	switch name {
	case "subject":
		r.Subject, err = strict.Text(value)
	case "client":
		r.Client, err = strict.Text(value)
	case "session":
		r.Session, err = strict.Text(value)
	case "key":
		r.Key, err = strict.Text(value)
	case "kind":
		var kind string
		kind, err = strict.Text(value)
		r.Kind = Kind(kind)
	case "reason":
		r.Reason, err = strict.Text(value)
	case "count":
		r.Count, err = whole(value)
	case "first":
		r.First, err = second(value)
	case "last":
		r.Last, err = second(value)
	case "addresses":
		var texts []string
		if texts, err = strict.Texts(value); err == nil {
			r.Addresses, err = parseAddresses(texts)
		}
	}
	return named(name, err)
}

// whole reads a number without sign, fraction and exponent.
func whole(value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 53)
	if err != nil {
		return 0, fmt.Errorf("a whole number is expected, not %.20q", value)
	}
	return int(n), nil
}

func second(value string) (time.Time, error) {
	n, err := whole(value)
	return time.Unix(int64(n), 0), err
}

func parseAddresses(texts []string) ([]netip.Addr, error) {
	if len(texts) > MaxAddresses {
		return nil, fmt.Errorf("there are %d, at most %d are expected", len(texts), MaxAddresses)
	}
	var list []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil || a.String() != text {
			return nil, errors.New("an address is none, or is written in another way than the usual one")
		}
		list = append(list, a)
	}
	return list, nil
}
