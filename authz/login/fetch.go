package login

import (
	"fmt"
	"net/http"
	"strings"
)

// TopLevel refuses a page that would not be shown as a page of its own: in a
// frame, by a script, as an image (Fetch Metadata), or ahead of the person's
// click, who may never come: it would use up a request, or sign somebody out. A
// browser that does not send the headers is held off by frame-ancestors and
// CORP.
func TopLevel(r *http.Request) error {
	if purpose := r.Header.Get("Sec-Purpose"); strings.HasPrefix(purpose, "prefetch") {
		return fmt.Errorf("Sec-Purpose %.20q, a person's click expected", purpose)
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return fmt.Errorf("Sec-Fetch-Mode %.20q, navigate expected", mode)
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return fmt.Errorf("Sec-Fetch-Dest %.20q, document expected", dest)
	}
	return nil
}

// SameOriginPost refuses a form post that did not come from a page of ours.
// Sec-Fetch-Site says so where it is sent; Origin must name us wherever it is
// sent; one of them must be.
func SameOriginPost(r *http.Request, issuer string) error {
	if err := TopLevel(r); err != nil {
		return err
	}
	site, origins := r.Header.Get("Sec-Fetch-Site"), r.Header["Origin"]
	if site != "" && site != "same-origin" {
		return fmt.Errorf("Sec-Fetch-Site %.20q, same-origin expected", site)
	}
	if len(origins) > 1 || len(origins) == 1 && origins[0] != issuer {
		// With no-referrer a browser writes null as the Origin of its own
		// form posts; Sec-Fetch-Site then vouches for it.
		if len(origins) > 1 || origins[0] != "null" || site != "same-origin" {
			return fmt.Errorf("Origin %.100q, %s expected", origins[0], issuer)
		}
	}
	if site == "" && len(origins) == 0 {
		return fmt.Errorf("neither Sec-Fetch-Site nor Origin was sent")
	}
	return nil
}
