package authz

import (
	"context"
	"time"
)

// sweepEvery and sweepLimit bound what expired records cost: a sweep removes
// little at a time and comes back.
const (
	sweepEvery = time.Minute
	sweepLimit = 500
)

func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for {
			n, err := s.Store.Sweep(ctx, s.Now(), sweepLimit)
			if err != nil && !failing && ctx.Err() == nil {
				s.log.Error("expired records could not be removed; trying again every minute", "error", err)
			}
			failing = err != nil
			if n < sweepLimit || err != nil {
				break
			}
		}
	}
}
