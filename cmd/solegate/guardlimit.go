package main

import (
	"context"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage/redis"
)

// charges lets the guards of one API count together in a Redis.
type charges struct{ *redis.Limiter }

var _ verify.Shared = charges{}

// Charge implements [verify.Shared].
func (c charges) Charge(ctx context.Context, list []verify.Charge) error {
	keys, costs := make([][32]byte, len(list)), make([]time.Duration, len(list))
	for i := range list {
		keys[i], costs[i] = list[i].Key, list[i].Cost
	}
	backlogs, err := c.Limiter.Charge(ctx, keys, costs)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Backlog = backlogs[i]
	}
	return nil
}
