package abuse

import (
	"slices"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// together is how long reports of the same are added up in one piece of
// evidence, from the first of them: whoever is reported every second would
// otherwise have no more than half a minute of it.
const together = time.Hour

// note puts a report into the case's evidence.
func note(c *storage.Case, from clients.ID, r *reports.Report, now time.Time) {
	e := storage.Evidence{
		ResourceServer: from, Kind: string(r.Kind), Reason: r.Reason, Count: min(r.Count, maxTally), First: r.First, Last: r.Last,
		Client: clients.ID(r.Client), Session: storage.SessionID(r.Session), JKT: r.Key, Addresses: slices.Clone(r.Addresses), ReceivedAt: now,
	}
	for i, old := range slices.Backward(c.Evidence) {
		if old.ResourceServer != e.ResourceServer || old.Kind != e.Kind || old.Reason != e.Reason || old.Client != e.Client || old.Session != e.Session || old.JKT != e.JKT {
			continue
		}
		if now.Sub(old.First) < together && !c.DismissedAt.After(old.ReceivedAt) {
			e = both(old, e)
			c.Evidence = slices.Delete(c.Evidence, i, i+1)
		}
		break
	}
	c.Evidence = append(c.Evidence, e)
	if len(c.Evidence) > storage.MaxEvidence {
		// The oldest of whoever has the most: no resource server pushes out what
		// another one said.
		n := map[clients.ID]int{}
		most := e.ResourceServer
		for _, x := range c.Evidence {
			n[x.ResourceServer]++
			if n[x.ResourceServer] > n[most] {
				most = x.ResourceServer
			}
		}
		i := slices.IndexFunc(c.Evidence, func(x storage.Evidence) bool { return x.ResourceServer == most })
		c.Evidence = slices.Delete(c.Evidence, i, i+1)
	}
}

// both adds up two pieces of evidence of the same.
func both(old, e storage.Evidence) storage.Evidence {
	e.Count += min(old.Count, maxTally-e.Count)
	if old.First.Before(e.First) {
		e.First = old.First
	}
	if old.Last.After(e.Last) {
		e.Last = old.Last
	}
	addresses := slices.Clone(old.Addresses)
	for _, a := range e.Addresses {
		if len(addresses) < reports.MaxAddresses && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	e.Addresses = addresses
	return e
}
