package main

import (
	"context"
	"time"
)

// outage is for how long something is gone that was killed.
const outage = time.Second

// disaster is what happens when the i-th person is about to be blocked, nil if
// nothing does: at a third of them a server is killed, at two thirds the Redis.
func (r *replicas) disaster(i int) func(context.Context) error {
	switch {
	case r.chaos && i == len(r.people)/3:
		return r.loseServer
	case r.chaos && i == 2*len(r.people)/3 && r.redis != nil:
		return r.loseRedis
	}
	return nil
}

// kill is kill -9, and what comes of it.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// loseServer kills the first server and starts it again after a while. Its APIs
// must find another one.
func (r *replicas) loseServer(ctx context.Context) error {
	lost := &r.servers[0]
	r.process(*lost).kill()
	if err := wait(ctx, outage); err != nil {
		return err
	}
	server, err := r.serve(ctx, "solegate-again", lost.address, "--admin-socket", r.socket(0))
	if err == nil {
		lost.pid = server.cmd.Process.Pid
	}
	return err
}

// loseRedis kills the Redis and starts it again, from its append-only file.
func (r *replicas) loseRedis(ctx context.Context) error {
	r.redis.kill()
	if err := wait(ctx, outage); err != nil {
		return err
	}
	return r.runRedis(ctx, r.redis.address)
}
