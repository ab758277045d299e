// Package errorsx stands in for the two functions of github.com/ory/x that
// fosite calls. See the README beside go.mod.
package errorsx

// WithStack returns err as it is. A stack trace per refused request would cost
// more than the refusal, and our errors say where they come from.
func WithStack(err error) error { return err }

// The interfaces below are what fosite's RFC6749Error proves that it
// implements.
type (
	// StatusCodeCarrier is an error with an HTTP status.
	StatusCodeCarrier interface{ StatusCode() int }
	// RequestIDCarrier is an error with the id of the request it ended.
	RequestIDCarrier interface{ RequestID() string }
	// ReasonCarrier is an error with a reason for people.
	ReasonCarrier interface{ Reason() string }
	// DebugCarrier is an error with details for developers.
	DebugCarrier interface{ Debug() string }
	// StatusCarrier is an error with the text of its HTTP status.
	StatusCarrier interface{ Status() string }
	// DetailsCarrier is an error with structured details.
	DetailsCarrier interface{ Details() map[string]interface{} }
	// IDCarrier is an error with an identifier.
	IDCarrier interface{ ID() string }
)

// Cause returns the innermost error that err wraps by a Cause method.
func Cause(err error) error {
	for {
		c, ok := err.(interface{ Cause() error })
		if !ok || c.Cause() == nil {
			return err
		}
		err = c.Cause()
	}
}
