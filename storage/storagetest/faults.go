package storagetest

import (
	"context"
	"fmt"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Fault is asked before every write, and told its name ("Redeem").
type Fault func(write string) Outcome

// Outcome is what becomes of a write, and how long it takes.
type Outcome struct {
	// Before and After are waited for around the call.
	Before, After time.Duration
	// Fail answers storage.ErrUnavailable and does nothing.
	Fail bool
	// Lose does it, and yet answers storage.ErrUnknown.
	Lose bool
}

// Latency waits before and after every write.
func Latency(d time.Duration) Fault {
	return func(string) Outcome { return Outcome{Before: d, After: d} }
}

// WithFaults returns s with faults in its writes.
func WithFaults(s storage.Store, f Fault) storage.Store { return &faulty{s, f} }

type faulty struct {
	storage.Store
	fault Fault
}

func (f *faulty) do(ctx context.Context, name string, write func() error) error {
	o := f.fault(name)
	if o.Fail {
		return fmt.Errorf("%w: injected", storage.ErrUnavailable)
	}
	if err := wait(ctx, o.Before); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	err := write()
	wait(context.WithoutCancel(ctx), o.After)
	if o.Lose && err == nil {
		return fmt.Errorf("%w: injected", storage.ErrUnknown)
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *faulty) CreateClient(ctx context.Context, c clients.Client) error {
	return f.do(ctx, "CreateClient", func() error { return f.Store.CreateClient(ctx, c) })
}
func (f *faulty) UpdateClient(ctx context.Context, c clients.Client) error {
	return f.do(ctx, "UpdateClient", func() error { return f.Store.UpdateClient(ctx, c) })
}
func (f *faulty) RemoveClient(ctx context.Context, id clients.ID) error {
	return f.do(ctx, "RemoveClient", func() error { return f.Store.RemoveClient(ctx, id) })
}
func (f *faulty) CreateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return f.do(ctx, "CreateResourceServer", func() error { return f.Store.CreateResourceServer(ctx, rs) })
}
func (f *faulty) UpdateResourceServer(ctx context.Context, rs clients.ResourceServer) error {
	return f.do(ctx, "UpdateResourceServer", func() error { return f.Store.UpdateResourceServer(ctx, rs) })
}
func (f *faulty) RemoveResourceServer(ctx context.Context, id clients.ID) error {
	return f.do(ctx, "RemoveResourceServer", func() error { return f.Store.RemoveResourceServer(ctx, id) })
}
func (f *faulty) CreateUser(ctx context.Context, u storage.User) error {
	return f.do(ctx, "CreateUser", func() error { return f.Store.CreateUser(ctx, u) })
}
func (f *faulty) UpdateUser(ctx context.Context, u storage.User) error {
	return f.do(ctx, "UpdateUser", func() error { return f.Store.UpdateUser(ctx, u) })
}
func (f *faulty) RemoveUser(ctx context.Context, id storage.UserID) error {
	return f.do(ctx, "RemoveUser", func() error { return f.Store.RemoveUser(ctx, id) })
}
func (f *faulty) CreateSession(ctx context.Context, s storage.Session) error {
	return f.do(ctx, "CreateSession", func() error { return f.Store.CreateSession(ctx, s) })
}
func (f *faulty) TouchSession(ctx context.Context, id storage.SessionID, seen, idleExpires time.Time) error {
	return f.do(ctx, "TouchSession", func() error { return f.Store.TouchSession(ctx, id, seen, idleExpires) })
}
func (f *faulty) RenewSession(ctx context.Context, s storage.Session) error {
	return f.do(ctx, "RenewSession", func() error { return f.Store.RenewSession(ctx, s) })
}
func (f *faulty) EndSession(ctx context.Context, id storage.SessionID, at time.Time) error {
	return f.do(ctx, "EndSession", func() error { return f.Store.EndSession(ctx, id, at) })
}
func (f *faulty) CreateGrant(ctx context.Context, g storage.Grant) error {
	return f.do(ctx, "CreateGrant", func() error { return f.Store.CreateGrant(ctx, g) })
}
func (f *faulty) Redeem(ctx context.Context, r storage.Redemption) error {
	return f.do(ctx, "Redeem", func() error { return f.Store.Redeem(ctx, r) })
}
func (f *faulty) Rotate(ctx context.Context, r storage.Rotation) error {
	return f.do(ctx, "Rotate", func() error { return f.Store.Rotate(ctx, r) })
}
func (f *faulty) RevokeGrant(ctx context.Context, id storage.GrantID, at time.Time, reason string) error {
	return f.do(ctx, "RevokeGrant", func() error { return f.Store.RevokeGrant(ctx, id, at, reason) })
}
func (f *faulty) PutKeyRing(ctx context.Context, r storage.KeyRing) error {
	return f.do(ctx, "PutKeyRing", func() error { return f.Store.PutKeyRing(ctx, r) })
}
func (f *faulty) Sweep(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = f.do(ctx, "Sweep", func() (err error) {
		n, err = f.Store.Sweep(ctx, now, limit)
		return err
	})
	return n, err
}
func (f *faulty) Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (t storage.Tally, err error) {
	err = f.do(ctx, "Count", func() (err error) {
		t, err = f.Store.Count(ctx, key, n, now, window)
		return err
	})
	return t, err
}
func (f *faulty) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	return f.do(ctx, "Once", func() error { return f.Store.Once(ctx, key, now, until) })
}
func (f *faulty) AppendEvents(ctx context.Context, list []storage.Event, now time.Time) error {
	return f.do(ctx, "AppendEvents", func() error { return f.Store.AppendEvents(ctx, list, now) })
}
func (f *faulty) PutCase(ctx context.Context, c storage.Case) error {
	return f.do(ctx, "PutCase", func() error { return f.Store.PutCase(ctx, c) })
}
func (f *faulty) RemoveCase(ctx context.Context, u storage.UserID) error {
	return f.do(ctx, "RemoveCase", func() error { return f.Store.RemoveCase(ctx, u) })
}
func (f *faulty) AppendAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	return f.do(ctx, "AppendAudit", func() error { return f.Store.AppendAudit(ctx, after, lines) })
}
func (f *faulty) CopyAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	return f.do(ctx, "CopyAudit", func() error { return f.Store.CopyAudit(ctx, after, lines) })
}
func (f *faulty) AddLogouts(ctx context.Context, list []storage.Logout) error {
	return f.do(ctx, "AddLogouts", func() error { return f.Store.AddLogouts(ctx, list) })
}
func (f *faulty) ClaimLogouts(ctx context.Context, now, again time.Time, limit int) (list []storage.Logout, err error) {
	err = f.do(ctx, "ClaimLogouts", func() (err error) {
		list, err = f.Store.ClaimLogouts(ctx, now, again, limit)
		return err
	})
	if err != nil {
		return nil, err // what was claimed is not known to who gets an error
	}
	return list, nil
}
func (f *faulty) DeferLogout(ctx context.Context, c clients.ID, s storage.SessionID, due time.Time) error {
	return f.do(ctx, "DeferLogout", func() error { return f.Store.DeferLogout(ctx, c, s, due) })
}
func (f *faulty) FinishLogout(ctx context.Context, c clients.ID, s storage.SessionID) error {
	return f.do(ctx, "FinishLogout", func() error { return f.Store.FinishLogout(ctx, c, s) })
}
