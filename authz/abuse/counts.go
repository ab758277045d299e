package abuse

import (
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Count is how much one resource server's reports count for a rule now, of how
// much it takes.
type Count struct {
	Rule           string
	ResourceServer clients.ID
	Count, Of      int
	Within         time.Duration
}

// Counts returns how much counts in a case now, by the rules that there are.
func (j *Judge) Counts(c storage.Case) []Count {
	var list []Count
	for _, t := range c.Tallies {
		r := j.Policy.rule(t.Rule)
		if r == nil {
			continue
		}
		if n := estimate(t, r.Within, j.Now()); n > 0 {
			list = append(list, Count{t.Rule, t.ResourceServer, n, r.Count, r.Within})
		}
	}
	return list
}
