package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// location is where a Redis is and how it is spoken to.
type location struct {
	topology           topology
	addrs              []string // of the server, the Sentinels, or some of the cluster
	primary            string   // its name with the Sentinels
	db                 int
	user, password     string
	sentinelUser       string
	sentinelPassword   string
	tls                *tls.Config // nil: plain
	prefix             string
	replicas           int
	timeout, fsync     time.Duration
	connectionsPerNode int
}

type topology string

const (
	single   topology = "single"
	sentinel topology = "sentinel"
	cluster  topology = "cluster"
)

// Defaults of a location.
const (
	defaultPrefix  = "sg:"
	defaultTimeout = 2 * time.Second
	defaultPort    = "6379"
	sentinelPort   = "26379"
)

// Redacted is a store's URL without its password, for logs and messages.
func Redacted(text string) string {
	u, err := split(text)
	if err != nil {
		scheme, _, _ := strings.Cut(text, "://")
		return scheme + "://…"
	}
	return u.Redacted()
}

// split parses a URL whose host may be several with commas between, which
// net/url does not know.
func split(text string) (*url.URL, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest+"/", "/?#")
	authority := rest[:end]
	at := strings.LastIndexByte(authority, '@') + 1
	u, err := url.Parse(scheme + "://" + authority[:at] + "host" + rest[end:])
	if err != nil {
		return nil, err
	}
	u.Host = authority[at:]
	return u, nil
}

// Validate returns what is wrong with a store's URL, without connecting.
func Validate(text string) error {
	_, err := parse(text)
	return err
}

// parse takes a URL apart:
//
//	redis://[user[:password]@]host[:port][/db]
//	redis+sentinel://[user[:password]@]host[:port],…/primary[/db]
//	redis+cluster://[user[:password]@]host[:port],…
//
// with rediss for TLS, and the parameters of the package's documentation. No
// error has the URL in it: it may have a password in it.
func parse(text string) (*location, error) {
	u, err := split(text)
	if err != nil {
		return nil, errors.New("not a URL: redis://user:password@host:6379/0 is one; write special characters of a password as %XX, or put it in a file and name that with ?password_file=")
	}
	l := &location{prefix: defaultPrefix, timeout: defaultTimeout, connectionsPerNode: 64}
	port := defaultPort
	base, form, _ := strings.Cut(u.Scheme, "+")
	switch {
	case base != "redis" && base != "rediss":
		return nil, fmt.Errorf("the scheme is %q: redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster expected", u.Scheme)
	case form == "":
		l.topology = single
	case form == "sentinel":
		l.topology, l.replicas, port = sentinel, 1, sentinelPort
	case form == "cluster":
		l.topology, l.replicas = cluster, 1
	default:
		return nil, fmt.Errorf("the scheme is %q: after the + sentinel or cluster is expected", u.Scheme)
	}
	for _, addr := range strings.Split(u.Host, ",") {
		host, p, err := net.SplitHostPort(addr)
		if err != nil {
			host, p = strings.Trim(addr, "[]"), port
		}
		if host == "" || strings.ContainsAny(host, " \t\r\n\"'<>\\^`{|}%") {
			return nil, errors.New("the URL names no host, or one that can't be: redis://user:password@host:6379/0 is one")
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the URL's port is no number from 1 to 65535")
		}
		l.addrs = append(l.addrs, net.JoinHostPort(host, p))
	}
	if len(l.addrs) > 1 && l.topology == single {
		return nil, errors.New("redis:// names one server: for several use redis+sentinel:// or redis+cluster://")
	}
	if u.User != nil {
		l.user = u.User.Username()
		l.password, _ = u.User.Password()
	}
	if err := l.path(strings.Split(strings.Trim(u.Path, "/"), "/")); err != nil {
		return nil, err
	}
	return l, l.parameters(u.Query(), base == "rediss")
}

// path reads the part after the hosts.
func (l *location) path(parts []string) error {
	if parts[0] == "" {
		parts = nil
	}
	if l.topology == sentinel {
		if len(parts) == 0 {
			return errors.New("redis+sentinel:// needs the name that the Sentinels know the primary by, such as redis+sentinel://host:26379/mymaster")
		}
		l.primary, parts = parts[0], parts[1:]
	}
	switch {
	case len(parts) == 0:
		return nil
	case len(parts) > 1 || l.topology == cluster:
		return errors.New("the URL's path has too many parts: redis://host/db, redis+sentinel://hosts/primary/db and redis+cluster://hosts are the forms")
	}
	db, err := strconv.Atoi(parts[0])
	if err != nil || db < 0 {
		return fmt.Errorf("the database is %q: a number expected", parts[0])
	}
	l.db = db
	return nil
}

// parameters reads the query.
func (l *location) parameters(q url.Values, secure bool) error {
	var files struct{ ca, certificate, key, name string }
	for name, values := range q {
		value := values[0]
		var err error
		switch {
		case len(values) > 1:
			err = errors.New("it is there more than once")
		case name == "prefix":
			if l.prefix = value; value == "" || strings.ContainsAny(value, "{}*?[]\\") {
				err = errors.New("text without any of {}*?[]\\ expected")
			}
		case name == "replicas":
			if l.replicas, err = strconv.Atoi(value); err != nil || l.replicas < 0 || l.replicas > 10 {
				err = errors.New("a number from 0 to 10 expected")
			}
		case name == "connections":
			if l.connectionsPerNode, err = strconv.Atoi(value); err != nil || l.connectionsPerNode < 1 || l.connectionsPerNode > 10000 {
				err = errors.New("a number from 1 to 10000 expected")
			}
		case name == "timeout":
			if l.timeout, err = time.ParseDuration(value); err != nil || l.timeout < 50*time.Millisecond || l.timeout > time.Minute {
				err = errors.New("a duration from 50ms to 1m expected")
			}
		case name == "fsync":
			if l.fsync, err = time.ParseDuration(value); err != nil || l.fsync != 0 && (l.fsync < 2*time.Second || l.fsync > time.Minute) {
				err = errors.New("0 or a duration from 2s to 1m expected: the disk's turn comes once a second, that of a replica's a second later")
			}
		case name == "password_file":
			l.password, err = secretFile(value)
		case name == "sentinel_user" && l.topology == sentinel:
			l.sentinelUser = value
		case name == "sentinel_password_file" && l.topology == sentinel:
			l.sentinelPassword, err = secretFile(value)
		case name == "ca" && secure:
			files.ca = value
		case name == "certificate" && secure:
			files.certificate = value
		case name == "key" && secure:
			files.key = value
		case name == "server_name" && secure:
			files.name = value
		default:
			err = errors.New("no such parameter here")
		}
		if err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	if !secure {
		return nil
	}
	l.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.name}
	if files.ca != "" {
		pem, err := os.ReadFile(files.ca)
		if err != nil {
			return fmt.Errorf("parameter ca: %w", err)
		}
		l.tls.RootCAs = x509.NewCertPool()
		if !l.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("parameter ca: there is no certificate in %s", files.ca)
		}
	}
	if files.certificate == "" && files.key == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(files.certificate, files.key); err != nil {
		return fmt.Errorf("parameters certificate and key: %w", err)
	}
	// Read at each connection: a renewed one needs no restart.
	l.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(files.certificate, files.key)
		return &pair, err
	}
	return nil
}

func secretFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}
