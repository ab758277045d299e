// Package oauth holds the words of the protocol: error codes, parameters,
// grant types and scopes, as the specifications spell them, and the one
// [Error] that the network may be told.
package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code is a registered error code.
type Code string

// Error codes, with the section that defines each.
const (
	InvalidRequest                 Code = "invalid_request"                   // RFC 6749 §5.2
	InvalidClient                  Code = "invalid_client"                    // RFC 6749 §5.2
	InvalidGrant                   Code = "invalid_grant"                     // RFC 6749 §5.2
	UnauthorizedClient             Code = "unauthorized_client"               // RFC 6749 §5.2
	UnsupportedGrantType           Code = "unsupported_grant_type"            // RFC 6749 §5.2
	InvalidScope                   Code = "invalid_scope"                     // RFC 6749 §5.2
	AccessDenied                   Code = "access_denied"                     // RFC 6749 §4.1.2.1
	UnsupportedResponseType        Code = "unsupported_response_type"         // RFC 6749 §4.1.2.1
	ServerError                    Code = "server_error"                      // RFC 6749 §4.1.2.1
	TemporarilyUnavailable         Code = "temporarily_unavailable"           // RFC 6749 §4.1.2.1
	InvalidToken                   Code = "invalid_token"                     // RFC 6750 §3.1
	InsufficientScope              Code = "insufficient_scope"                // RFC 6750 §3.1
	InvalidTarget                  Code = "invalid_target"                    // RFC 8707 §2
	LoginRequired                  Code = "login_required"                    // OpenID Connect Core §3.1.2.6
	ConsentRequired                Code = "consent_required"                  // OpenID Connect Core §3.1.2.6
	InteractionRequired            Code = "interaction_required"              // OpenID Connect Core §3.1.2.6
	AccountSelectionRequired       Code = "account_selection_required"        // OpenID Connect Core §3.1.2.6
	RequestNotSupported            Code = "request_not_supported"             // OpenID Connect Core §3.1.2.6
	RequestURINotSupported         Code = "request_uri_not_supported"         // OpenID Connect Core §3.1.2.6
	RegistrationNotSupported       Code = "registration_not_supported"        // OpenID Connect Core §3.1.2.6
	InvalidRequestURI              Code = "invalid_request_uri"               // RFC 9101 §6.1
	InvalidDPoPProof               Code = "invalid_dpop_proof"                // RFC 9449 §5
	UseDPoPNonce                   Code = "use_dpop_nonce"                    // RFC 9449 §8
	UnmetAuthentication            Code = "unmet_authentication_requirements" // OpenID Connect Core Unmet Authentication Requirements 1.0
	InsufficientUserAuthentication Code = "insufficient_user_authentication"  // RFC 9470 §3
)

// Error is what the network may be told, and beside it what only the log is.
// Description is fixed text: it never holds anything a caller sent.
type Error struct {
	Code        Code
	Description string
	// Status is the HTTP status where the error is answered directly. Zero
	// means 400.
	Status int
	// RetryAfter is when to come again, where that is known.
	RetryAfter time.Duration
	// Cause goes to the log and never to the network.
	Cause error
}

// Errorf makes an Error whose Cause is the formatted text. The description is
// fixed text for the network.
func Errorf(code Code, description, format string, args ...any) *Error {
	return &Error{Code: code, Description: description, Cause: fmt.Errorf(format, args...)}
}

// Error returns the code, the description and the cause: for the log.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// TooSoon says to a client whose user is slowed down when to come again. Its
// status is that of RFC 6585 §4; of the codes that there are this one says best
// that nothing is wrong with the request, and that it may be made again.
func TooSoon(wait time.Duration, cause error) *Error {
	return &Error{Code: TemporarilyUnavailable, Description: "Too many requests for this account; try again later.",
		Status: http.StatusTooManyRequests, RetryAfter: wait, Cause: cause}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus returns Status, or what the code's specification asks for.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	switch e.Code {
	case InvalidToken, InsufficientUserAuthentication:
		return http.StatusUnauthorized
	case InsufficientScope:
		return http.StatusForbidden
	case ServerError:
		return http.StatusInternalServerError
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// As returns err as an Error. An error that is not one becomes server_error
// with err as its cause: the default is silence.
func As(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: ServerError, Description: "The server met an unexpected condition.", Cause: err}
}
