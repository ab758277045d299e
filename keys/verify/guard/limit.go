package guard

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// Limit is how much an account or an app may ask for, on one route or on all
// that are not public.
type Limit struct {
	verify.Limit

	// Route is the Pattern of the route whose requests count, as it stands in
	// Config.Routes. Empty means the requests of all routes, together.
	Route string
}

// The words for whose requests count together.
var counted = map[string]verify.By{"account": verify.BySubject, "client": verify.ByClient, "account-client": verify.BySubjectAndClient}

// ParseLimit reads a limit in one line: the route's pattern if it is for one,
// whose requests count together (account, client or account-client), how many
// in which time, and then, in any order, burst and how many may come at once,
// name and what the limit is called.
//
//	account 100/1m burst 50
//	GET /orders account 10/1s
//	client 1000/1m name apps
//
// Without a name it is called by the route and whose requests count:
// GET-orders-account.
func ParseLimit(text string) (Limit, error) {
	var l Limit
	words := strings.Fields(text)
	at := slices.IndexFunc(words, func(w string) bool { _, ok := counted[w]; return ok })
	if at < 0 || at > 2 || at+1 == len(words) || len(words[at+2:])%2 != 0 {
		return l, fmt.Errorf("%q: whose requests count and how many in which time are expected, such as 'account 100/1m burst 50' or 'GET /orders client 10/1s'", text)
	}
	l.Route, l.By = strings.Join(words[:at], " "), counted[words[at]]
	number, window, _ := strings.Cut(words[at+1], "/")
	var err error
	if l.Requests, err = strconv.Atoi(number); err != nil || l.Requests < 1 {
		return l, fmt.Errorf("%q: %q is no number of requests in a time, such as 100/1m", text, words[at+1])
	}
	if l.Window, err = time.ParseDuration(window); err != nil || l.Window <= 0 {
		return l, fmt.Errorf("%q: %q is no time, such as 10s, 1m or 24h", text, window)
	}
	seen := map[string]bool{}
	for option := range slices.Chunk(words[at+2:], 2) {
		switch name, value := option[0], option[1]; {
		case seen[name]:
			return l, fmt.Errorf("%q: %s is there twice", text, name)
		case name == "burst":
			if l.Burst, err = strconv.Atoi(value); err != nil || l.Burst < 1 {
				return l, fmt.Errorf("%q: burst %q: how many requests may come at once is expected", text, value)
			}
		case name == "name":
			l.Name = value
		default:
			return l, fmt.Errorf("%q: %q: burst or name is expected there", text, name)
		}
		seen[option[0]] = true
	}
	return l, l.valid()
}

// completed returns a limit with its name and its burst.
func (l Limit) completed() Limit {
	if l.Name == "" {
		word := "account"
		for w, by := range counted {
			if by == l.By {
				word = w
			}
		}
		l.Name = strings.Join(append(strings.FieldsFunc(l.Route, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}), word), "-")
	}
	if l.Burst == 0 {
		l.Burst = l.Requests
	}
	return l
}

// valid returns what verify.Limit would panic with.
func (l Limit) valid() error {
	if err := l.completed().Limit.Validate(); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "verify: "))
	}
	return nil
}

// limits returns the limits with their names, and what is wrong with them.
func (c *Config) limits() ([]Limit, []Problem) {
	var problems []Problem
	list := make([]Limit, len(c.Limits))
	for i, l := range c.Limits {
		list[i] = l.completed()
		bad := func(format string, args ...any) {
			problems = append(problems, Problem{fmt.Sprintf("Limits[%d]", i), fmt.Sprintf(format, args...)})
		}
		if err := l.valid(); err != nil {
			bad("%v", err)
			continue
		}
		if l.Route != "" {
			at := slices.IndexFunc(c.Routes, func(r Route) bool { return r.Pattern == l.Route })
			switch {
			case at < 0:
				bad("%q is no route: the pattern of one of the routes is expected, as it stands there, or none for all of them", l.Route)
			case c.Routes[at].Public:
				bad("%q is public: nobody knows whose requests they are", l.Route)
			}
		}
		for j, other := range list[:i] {
			// Routes share a bucket where somebody says so, and not by chance.
			shared := l.Name != "" && c.Limits[j].Name != "" && other.Limit == list[i].Limit && other.Route != l.Route
			if other.Name == list[i].Name && !shared {
				bad("there is another limit called %q: give one of them a name of its own", other.Name)
				break
			}
		}
	}
	return list, problems
}
