// Package sqlite keeps everything in one SQLite file: the store for one
// machine.
//
// What a method acknowledged is on disk: the file is in WAL mode with full
// synchronisation. All writes of a process go through one goroutine, which
// commits whatever is waiting as one transaction, so that the cost of a sync
// is shared among all who wait for it. Reads have connections of their own and
// never wait for a write.
//
// Other processes, such as the command line, may read and write the same file
// at any time. The file must be on a local disk.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/solegate/solegate/storage"
)

//go:embed schema/*.sql
var schema embed.FS

// applicationID marks the file as ours (PRAGMA application_id): "Sole".
const applicationID = 0x536f6c65

// Config says which file.
type Config struct {
	// Path of the file. It is made, readable by its owner alone, if it does
	// not exist; its folder must exist.
	Path string

	// BusyTimeout is how long to wait while another process writes: 5
	// seconds if zero.
	BusyTimeout time.Duration

	// Readers is how many reads may run at once: 4 if zero.
	Readers int
}

// Store is a store in one SQLite file.
type Store struct {
	path     string
	patience time.Duration // BusyTimeout
	reading  *sql.DB
	writing  *sql.DB
	read     statements
	write    statements

	watching *sql.DB // one connection, which notices what other processes write
	woken    wakeup  // by what this process appended

	queue   chan *operation
	closing chan struct{} // closed when Close was called
	closed  chan struct{} // closed when the writer is done
	once    sync.Once
}

var _ storage.Store = (*Store)(nil)

// Open opens the file, or makes it. Every error is one line with a remedy;
// whatever exists at the path is never replaced. A server opens its file once:
// POSIX drops a process's locks on a file when it closes any descriptor of it,
// and a second Open would close one.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.BusyTimeout == 0 {
		c.BusyTimeout = 5 * time.Second
	}
	if c.Readers == 0 {
		c.Readers = 4
	}
	if err := ensureFile(ctx, c); err != nil {
		return nil, err
	}
	s := &Store{
		path:     c.Path,
		patience: c.BusyTimeout,
		queue:    make(chan *operation, 1024),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	var err error
	if s.writing, err = connect(c, false); err == nil {
		s.writing.SetMaxOpenConns(1)
		err = migrate(ctx, s.writing)
	}
	if err == nil {
		err = intact(ctx, s.writing, c.Path)
	}
	if err == nil {
		s.reading, err = connect(c, true)
	}
	if err == nil {
		s.reading.SetMaxOpenConns(c.Readers)
		s.reading.SetMaxIdleConns(c.Readers)
		s.watching, err = connect(c, true)
	}
	if err == nil {
		s.watching.SetMaxOpenConns(1)
		err = errors.Join(s.read.prepare(ctx, s.reading), s.write.prepare(ctx, s.writing))
	}
	if err == nil {
		_, err = s.writing.ExecContext(ctx, "PRAGMA busy_timeout = 1") // from here on begin waits
	}
	if err != nil {
		if s.writing != nil {
			s.writing.Close()
		}
		if s.reading != nil {
			s.reading.Close()
		}
		if s.watching != nil {
			s.watching.Close()
		}
		return nil, explain(c.Path, err)
	}
	go s.writer()
	return s, nil
}

// connect returns connections to the file. Nothing is opened yet.
func connect(c Config, readOnly bool) (*sql.DB, error) {
	// mode=rw: SQLite never makes the file, ensureFile does, so a file that
	// vanished meanwhile, or a link to nowhere, does not become an empty store.
	q := url.Values{"_txlock": {"immediate"}, "mode": {"rw"}}
	for _, pragma := range []string{
		fmt.Sprintf("busy_timeout(%d)", c.BusyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(ON)",
		"trusted_schema(OFF)",
		"cache_size(-16384)",           // KiB, a connection
		"journal_size_limit(16777216)", // bytes that the WAL keeps after a long read held it up
	} {
		q.Add("_pragma", pragma)
	}
	if readOnly {
		q.Add("_pragma", "query_only(ON)")
	}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: c.Path, RawQuery: q.Encode()}).String())
}

// ensureFile makes the file if there is none. It is made whole beside its
// place and then linked into it, so that a crash leaves no empty file that a
// later start would take for an empty store.
func ensureFile(ctx context.Context, c Config) error {
	info, err := os.Stat(c.Path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("store %s is a folder: name a file in it, such as %s", c.Path, filepath.Join(c.Path, "solegate.db"))
	case err == nil && info.Size() == 0:
		return fmt.Errorf("store %s is empty, so what was in it is lost: restore it from a backup, or remove the file to start afresh", c.Path)
	case err == nil:
		return ours(c.Path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store %s can't be looked at: %w", c.Path, err)
	}
	// Without its file, a WAL is the last that was written to a store that is
	// gone; SQLite would replay it into the new one.
	if _, err := os.Stat(c.Path + "-wal"); err == nil {
		return fmt.Errorf("store %[1]s is gone, but %[1]s-wal is still there: put the file back, or restore both from a backup, or remove %[1]s-wal to start afresh", c.Path)
	}
	folder := filepath.Dir(c.Path)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return fmt.Errorf("store %s: the folder %s does not exist: make it, owned by the user that runs the server", c.Path, folder)
	}
	f, err := os.CreateTemp(folder, filepath.Base(c.Path)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("store %s: the folder %s can't be written: %w; give it to the user that runs the server", c.Path, folder, err)
	}
	f.Close()
	fresh := c
	fresh.Path = f.Name()
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(fresh.Path + suffix)
		}
	}()
	db, err := connect(fresh, false)
	if err == nil {
		db.SetMaxOpenConns(1)
		if _, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err == nil {
			err = migrate(ctx, db)
		}
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return explain(c.Path, err)
	}
	if err := os.Link(fresh.Path, c.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("store %s can't be made: %w", c.Path, err)
	}
	if err := ours(c.Path); err != nil { // somebody else was faster, or it is a link to nowhere
		return err
	}
	if d, err := os.Open(folder); err == nil {
		err = d.Sync() // the name, too, is on disk before anything counts
		d.Close()
		if err != nil {
			return fmt.Errorf("store %s: the folder can't be synced: %w", c.Path, err)
		}
	}
	return nil
}

// ours looks at the file's header before SQLite does: opening another program's
// file in WAL mode would already change it (sqlite.org/fileformat.html §1.3).
func ours(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("store %s can't be read: %w; give it to the user that runs the server", path, err)
	}
	defer f.Close()
	header := make([]byte, 100)
	if _, err := io.ReadFull(f, header); err != nil || string(header[:16]) != "SQLite format 3\x00" {
		return fmt.Errorf("store %s is damaged or no SQLite file: restore it from a backup, or name another file", path)
	}
	if binary.BigEndian.Uint32(header[68:]) != applicationID {
		return fmt.Errorf("store %s is another program's SQLite file: name another file", path)
	}
	return nil
}

// migrate brings the schema up to this version.
func migrate(ctx context.Context, db *sql.DB) error {
	names, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	// Where there is nothing to change, a command does not wait for a server
	// that writes all the time.
	if version, err := schemaVersion(ctx, db, len(names)); err != nil || version == len(names) {
		return err
	}
	tx, err := db.BeginTx(ctx, nil) // immediate: one process migrates
	if err != nil {
		return err
	}
	defer tx.Rollback()
	version, err := schemaVersion(ctx, tx, len(names))
	if err != nil {
		return err
	}
	for i, name := range names[version:] {
		text, err := schema.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+i+1)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// schemaVersion is how many of the known migrations the file has seen.
func schemaVersion(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, known int) (version int, err error) {
	err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	if err == nil && version > known {
		err = fmt.Errorf("it was written by a newer Solegate (schema %d, this one knows %d): use that version, or restore a backup of before", version, known)
	}
	return version, err
}

// checkUpTo is how large a file may be to be checked whole at every start, in
// bytes; reading more would hold up the start for seconds.
const checkUpTo = 256 << 20

// intact refuses a damaged file at the start rather than in the middle of a
// request.
func intact(ctx context.Context, db *sql.DB, path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() > checkUpTo {
		return err
	}
	var result string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("it is damaged (%s): restore it from a backup", strings.ReplaceAll(result, "\n", " "))
	}
	return nil
}

// SQLite's primary result codes (sqlite.org/rescode.html).
const (
	codeBusy     = 5
	codeLocked   = 6
	codeReadOnly = 8
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26
)

func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// taken says whether a unique value was: SQLITE_CONSTRAINT_PRIMARYKEY or
// _UNIQUE. Any other constraint that fails is a defect, no refusal.
func taken(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == 1555 || e.Code() == 2067)
}

// explain says what is wrong with the file and what to do.
func explain(path string, err error) error {
	switch resultCode(err) {
	case codeBusy, codeLocked:
		return fmt.Errorf("store %s is locked by another program: end it, or wait until it is done: %w", path, err)
	case codeReadOnly:
		return fmt.Errorf("store %s can't be written: give the file and its folder to the user that runs the server: %w", path, err)
	case codeCorrupt, codeNotADB:
		return fmt.Errorf("store %s is damaged or no SQLite file: restore it from a backup: %w", path, err)
	case codeFull:
		return fmt.Errorf("store %s: the disk is full: make room: %w", path, err)
	case codeCantOpen:
		return fmt.Errorf("store %s can't be opened: check that the user that runs the server may read and write it: %w", path, err)
	}
	return fmt.Errorf("store %s: %w", path, err)
}

// unavailable is err for a caller: the store can't do it now.
func (s *Store) unavailable(err error) error {
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, explain(s.path, err))
}

// Ready reads and takes the write lock for a moment.
func (s *Store) Ready(ctx context.Context) error {
	return s.do(ctx, func(w *writes) error {
		_, err := w.exec(stmtReady)
		return err
	})
}

// Close waits for the writes under way and closes the file.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.closed
	return errors.Join(s.watching.Close(), s.reading.Close(), s.writing.Close())
}
