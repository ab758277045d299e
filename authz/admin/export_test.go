package admin

// Route is a route as the tests see it.
type Route struct {
	Pattern     string
	Query, Body []string
}

// Routes are all routes.
func Routes() (all []Route) {
	for _, r := range routes {
		all = append(all, Route{r.pattern, r.query, r.body})
	}
	return all
}

// The parsers, for fuzzing.
var (
	ParseBody  = parseBody
	ParseQuery = parseQuery
)

// ProblemOf is what is answered for an error.
var ProblemOf = problem

// Remembered is how many operators are.
func (t *Turns) Remembered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.until)
}
