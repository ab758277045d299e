// Package redis keeps everything in Redis or Valkey: one server, one under
// Sentinel, or a Cluster, by one path of code. Any number of Solegate
// processes share it; none of them keeps anything that matters.
//
// # Where
//
//	redis://[user[:password]@]host[:port][/db]
//	redis+sentinel://[user[:password]@]host[:port],…/primary[/db]
//	redis+cluster://[user[:password]@]host[:port],…
//
// rediss, rediss+sentinel and rediss+cluster speak TLS. Parameters:
//
//	password_file           file with the password, in place of one in the URL
//	sentinel_user, sentinel_password_file
//	                        what the Sentinels themselves ask for
//	ca, certificate, key, server_name
//	                        TLS: who may have signed the server's certificate,
//	                        the client's own, the name in the server's
//	prefix                  begin of every key, "sg:"
//	replicas                how many replicas must have a lasting write before
//	                        it counts; 1 under Sentinel and in a cluster, else 0
//	timeout                 longest time for one operation, retries and all: 2s.
//	                        What is under way then has half of that to end
//	fsync                   longest time that the end of anything waits, besides,
//	                        until it is on disk: 0, not at all. 3s is enough
//	connections             most connections to one server, but for two that
//	                        wait for events: 64
//
// # Keys
//
// What is in braces is the hash tag: keys with the same one are in one slot,
// and a script touches one slot only. All of a person is in one, so people are
// what spreads the load; the registry is in another, so is the queue of logouts,
// so are the events, the order of cases and the audit log, names are in 64. [prefix] is in front of all. A life is
// counted from the record's own times by the clock of Redis, so no difference
// between clocks shortens it.
//
//	{r}c:ID     string  a client: version, JSON. For ever: registered by the operator.
//	{r}a:ID     string  a resource server: version, JSON. For ever, likewise.
//	{r}clients  zset    the clients' IDs, in order. For ever, likewise.
//	{r}apis     zset    the resource servers' IDs, in order. For ever, likewise.
//	{r}ring     string  the key ring: version, JSON with sealed keys. For ever: it is replaced whole.
//	{r}format   string  the format of all this: 2. For ever.
//	{r}ready    string  what /readyz writes. A minute.
//	n{0…63}     hash    user names to entries "deadline:nonce:user". For ever: as long as the account.
//	o{0…63}     zset    user names, in order. For ever, likewise.
//	u{USER}     string  an account: version, name, JSON. For ever: until it is removed.
//	i{USER}     zset    the person's sessions and grants, by when they expire. As long as the last of them.
//	s{USER}S    string  a session: times, record. Until Expires, and an hour.
//	g{USER}S.G  string  a grant: head, record, reason. Until Expires, and an hour.
//	w{USER}     string  until when a user who is slowed down gets no refresh. Until then, and 20 seconds.
//	k{USER}     string  a person's case: version, JSON. Until Expires, and an hour.
//	{k}cases    zset    who has a case, in order. Until the last of them is gone, and an hour.
//	{k}until    zset    the same, by when the case is gone for sure. As long.
//	t{KEY}W:P   string  a counter of window W, the Pth since the epoch. Two windows.
//	q{0…63}KEY  string  a token bucket of a [Limiter]: when it is full again. Until then.
//	x{KEY}      string  that something was used. As long as it could be again, and 20 seconds.
//	{l}logouts  hash    logout tokens that are owed: attempts, times. Until the last Expires, and an hour.
//	{l}due      zset    the same, by when they are due. As long.
//	{e}events   stream  what stopped being valid, in order. For ever: each event goes by itself, see below.
//	{a}audit    stream  the audit log, line by line. For ever: each line goes by itself, see below.
//
// Each is written by the scripts in folder script, and by nothing else.
//
// # What crosses slots
//
// Only user names and the order of cases do. Names go first and come back last.
// Whoever makes or
// renames an account reserves the name until a deadline (a lasting write, too),
// writes the account only if the deadline is well ahead by the clock of the
// account's server, and the name's entry then is right. If the process dies between the two, the
// entry names an account that does not exist or has another name: it counts
// for nothing, and after its deadline the next who asks for the name takes it.
// So no two accounts ever have one name, and nothing is left to clean up.
//
// A user is put into the order of cases before the case is written, and stays
// there until it is gone for sure: one without a case is left out of lists. So no
// case is ever missing in it, and later writes take out those whose time is over.
//
// # Events
//
// The events are one stream, so their order is that of one server. An event
// takes up to 180 bytes (of a grant, with a reason, for every audience), so
// 1,000,000 take 180 MB on the primary and on each replica, and some 45 bytes more
// for each place in a status list that it has; only the events of
// the last minutes are there, as long as the longest access token lives. One
// goes when the callers' clock and that of Redis say, 20 seconds after
// its Until, that nobody can need it, and from the begin of the order only:
// with each append a few more than come, and the rest when a server sweeps. The
// last one always stays, so a reader whose place is behind it has read what a
// failover then lost.
//
// A process that waits for events has one connection for that, whoever waits in
// it. It is not one of those that commands are sent on.
//
// # Audit log
//
// The audit log is one stream as well; the identifier of an entry is the line's
// number. A line takes about 90 bytes and its text, up to 430 for a code that was
// issued: 1,000,000 lines take 430 MB on the primary and on each replica. They go
// when a server sweeps, from the begin, 20 seconds after their Until at the
// soonest. They don't wait for the disk, whatever fsync says, only for replicas.
//
// # What lasts
//
// A lasting write (the end of anything, a rotation, a redemption, a change of
// an account, a client or the key ring, an event, a logout token that is owed
// or was sent) is answered when the replicas that the configuration asks for
// have it (WAIT), or not without [storage.ErrUnknown]. New sessions and grants
// are answered at once: if they are lost, people sign in again. So is
// what was used once: after a failover a proof may pass twice for the minute
// that it lives. So are the claim and the delay of a logout token: it is sent
// again.
//
// To have it is to have it in memory. With appendfsync always on all servers
// nobody is answered before the disks have it, and there is nothing to add. With
// everysec they have it up to a second later: what the process forgets when it
// is killed is next to nothing, what the machine forgets when its power fails is
// that second.
//
// fsync is for who can't pay for always. The end of anything (of a grant, a
// session, an account, a client or a signing key; a block, and every other change
// of those) is then answered when it is on the disk of the server and of as many
// replicas as are asked for (WAITAOF), or not without [storage.ErrUnknown]. It
// waits for the next turn of the disk: half a second on average and one at most,
// with replicas up to two. Rotations, redemptions and the revocation of a family
// whose old token came again don't wait, for a refresh would take as long: when
// the power fails, those of the last second may come back undone. It needs Redis
// 7.2 or newer, or Valkey; Open refuses a server that says too soon that
// something is on disk, as some releases do, and takes two seconds to see that.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/solegate/solegate/storage"
)

// Config is what Open needs.
type Config struct {
	// URL says where, see the package.
	URL string
	// Development turns refusals of a Redis that would lose data into warnings.
	Development bool
	Log         *slog.Logger
	// Rand makes versions and nonces; crypto/rand if nil.
	Rand io.Reader
}

// Store implements [storage.Store].
type Store struct {
	prefix   string
	replicas int
	timeout  time.Duration
	fsync    time.Duration // 0: nothing waits for the disk

	connections int // to one server, at most
	log         *slog.Logger
	rand        io.Reader

	client redis.UniversalClient
	one    *redis.Client        // the server, or who Sentinel says is primary
	spread *redis.ClusterClient // or the cluster
	nodes  sync.Map             // of the cluster: address to *redis.Client

	batchers sync.Map // lane to *batcher
	watch    *watcher
	closed   atomic.Bool
}

var _ storage.Store = (*Store)(nil)

// The oldest versions whose scripts and commands are used.
const oldestRedis = "6.2"

// Open connects, looks at what it connected to, and loads the scripts. It
// refuses a Redis that would lose what was acknowledged: one that evicts keys,
// or writes nothing to disk; in development it only warns.
func Open(ctx context.Context, c Config) (*Store, error) {
	l, err := parse(c.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{prefix: l.prefix, replicas: l.replicas, timeout: l.timeout, fsync: l.fsync, connections: l.connectionsPerNode, log: c.Log, rand: c.Rand}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	quiet.Do(logging.Disable) // it prints to standard error; every error comes back to us
	s.connect(l)
	if err := s.inspect(ctx, c.Development); err != nil {
		s.Close()
		return nil, fmt.Errorf("store %s: %w", Redacted(c.URL), err)
	}
	return s, nil
}

var quiet sync.Once

func (s *Store) connect(l *location) {
	if s.one, s.spread = dial(l); s.spread != nil {
		s.client = s.spread
		s.spread.OnNewNode(func(node *redis.Client) {
			s.nodes.Store(node.Options().Addr, node)
			s.forget()
		})
	} else {
		s.client = s.one
	}
	apart := *l
	apart.connectionsPerNode = 2 // one waits, one may ask a cluster who has the key now
	if one, spread := dial(&apart); spread != nil {
		s.watch = newWatcher(spread)
	} else {
		s.watch = newWatcher(one)
	}
}

// dial returns a client of the one server, or who Sentinel says is primary, or
// one of the cluster. Nothing is connected yet.
func dial(l *location) (*redis.Client, *redis.ClusterClient) {
	// Maintenance notifications are a commercial server's; asking costs a trip.
	noNotifications := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	// Pipelines have no pool of their own: it would come on top of the
	// connections that the configuration allows.
	switch l.topology {
	case single:
		return redis.NewClient(&redis.Options{
			Addr: l.addrs[0], Username: l.user, Password: l.password, DB: l.db, TLSConfig: l.tls, MaxRetries: -1,
			DialTimeout: l.timeout / 2, ReadTimeout: l.timeout + l.fsync, WriteTimeout: l.timeout, PoolTimeout: l.timeout, ContextTimeoutEnabled: true,
			PoolSize: l.connectionsPerNode, PipelinePoolSize: -1, DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: noNotifications,
		}), nil
	case sentinel:
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: l.primary, SentinelAddrs: l.addrs, SentinelUsername: l.sentinelUser, SentinelPassword: l.sentinelPassword,
			Username: l.user, Password: l.password, DB: l.db, TLSConfig: l.tls, MaxRetries: -1,
			DialTimeout: l.timeout / 2, ReadTimeout: l.timeout + l.fsync, WriteTimeout: l.timeout, PoolTimeout: l.timeout, ContextTimeoutEnabled: true,
			PoolSize: l.connectionsPerNode, PipelinePoolSize: -1, DialerRetries: 1, DisableIdentity: true,
		}), nil
	default:
		return nil, redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: l.addrs, Username: l.user, Password: l.password, TLSConfig: l.tls, MaxRetries: -1,
			MaxRedirects: 3, MinRetryBackoff: 5 * time.Millisecond, MaxRetryBackoff: 50 * time.Millisecond,
			DialTimeout: l.timeout / 2, ReadTimeout: l.timeout + l.fsync, WriteTimeout: l.timeout, PoolTimeout: l.timeout, ContextTimeoutEnabled: true,
			PoolSize: l.connectionsPerNode, PipelinePoolSize: -1, DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: noNotifications,
		})
	}
}

// inspect looks at every primary: its version, whether it would lose data, and
// gives it the scripts.
func (s *Store) inspect(ctx context.Context, development bool) error {
	ctx, cancel := context.WithTimeout(ctx, max(10*time.Second, s.timeout))
	defer cancel()
	err := s.primaries(ctx, func(node *redis.Client) error {
		text, err := node.Info(ctx, "server", "persistence", "memory", "replication").Result()
		if err != nil {
			return err
		}
		info := parseInfo(text)
		log := s.log.With("server", node.Options().Addr)
		version := info["redis_version"]
		if info["server_name"] == "valkey" {
			version = info["valkey_version"]
		}
		if older(version, oldestRedis) {
			return fmt.Errorf("the server is version %s: Redis %s or newer, or Valkey, is needed", version, oldestRedis)
		}
		var faults []string
		if policy := info["maxmemory_policy"]; policy != "noeviction" {
			faults = append(faults, fmt.Sprintf("maxmemory-policy is %s, so Redis would drop accounts and revocations when its memory is full: set it to noeviction", policy))
		}
		if info["aof_enabled"] != "1" {
			faults = append(faults, "there is no append-only file, so a restart would bring back what was revoked: set appendonly yes")
		}
		for _, f := range faults {
			if !development {
				return errors.New(f)
			}
			log.Warn(f)
		}
		if err := s.inspectDisk(ctx, node); err != nil {
			return err
		}
		if have, _ := strconv.Atoi(info["connected_slaves"]); have < s.replicas {
			log.Warn("too few replicas are connected: lasting writes will fail", "connected", have, "needed", s.replicas)
		}
		pipe := node.Pipeline()
		for _, sc := range scripts {
			pipe.ScriptLoad(ctx, sc.text)
		}
		_, err = pipe.Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return s.checkFormat(ctx)
}

// The format of all keys and records.
const format = "2"

func (s *Store) checkFormat(ctx context.Context) error {
	if err := s.client.SetNX(ctx, s.formatKey(), format, 0).Err(); err != nil {
		return err
	}
	found, err := s.client.Get(ctx, s.formatKey()).Result()
	if err != nil {
		return err
	}
	if found != format {
		return fmt.Errorf("what is stored has format %s, this Solegate knows %s: use the version that wrote it, or another prefix", found, format)
	}
	return nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// older compares versions by their first two numbers. One that can't be read
// is not called old.
func older(version, than string) bool {
	parts := func(v string) (n [2]int, ok bool) {
		for i, p := range strings.SplitN(v, ".", 3) {
			if i < 2 {
				var err error
				if n[i], err = strconv.Atoi(p); err != nil {
					return n, false
				}
			}
		}
		return n, true
	}
	a, ok := parts(version)
	b, _ := parts(than)
	return ok && (a[0] < b[0] || a[0] == b[0] && a[1] < b[1])
}

// Ready implements [storage.Store]: every primary answers, and what is written
// reaches the replicas.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// After many failures to connect the client answers with the last one for
	// up to a second, without trying: one "no" says nothing.
	if err := s.primaries(within, func(node *redis.Client) error {
		for attempt := 0; ; attempt++ {
			err := s.follows(within, node)
			if err == nil || errors.Is(err, errNotFollowed) || fate(err) == final || !pause(within, attempt) {
				return err
			}
		}
	}); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	err := s.do(ctx, write{script: readyScript, keys: []string{s.readyKey()}, repeat: harmless, lasting: true})
	if errors.Is(err, storage.ErrUnknown) {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}

var errNotFollowed = errors.New("too few replicas follow")

// follows fails unless a primary answers and has its replicas.
func (s *Store) follows(ctx context.Context, node *redis.Client) error {
	if s.replicas == 0 {
		return node.Ping(ctx).Err()
	}
	n, err := node.Do(ctx, "WAIT", s.replicas, (s.timeout / 2).Milliseconds()).Int()
	if err == nil && n < s.replicas {
		err = fmt.Errorf("%w: %s has %d of %d", errNotFollowed, node.Options().Addr, n, s.replicas)
	}
	return err
}

// Close implements [storage.Store].
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(s.watch.close(), s.client.Close())
}
