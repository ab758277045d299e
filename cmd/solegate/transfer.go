package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/transfer"
)

// progress returns a function that tells on standard error how far it is, at
// most once a second.
func (a *app) progress(doing string) func(transfer.Count) {
	last := time.Now()
	return func(c transfer.Count) {
		if time.Since(last) >= time.Second {
			last = time.Now()
			fmt.Fprintf(a.stderr, "solegate: %s: %d records\n", doing, c.Total())
		}
	}
}

func (a *app) counted(done string, c transfer.Count) error {
	return a.answer(c, "%s: %d clients, %d resource servers, %d users, %d sessions, %d grants, %d owed logouts, %d events, %d cases, %d audit lines, %d key ring\n",
		done, c.Clients, c.ResourceServers, c.Users, c.Sessions, c.Grants, c.Logouts, c.Events, c.Cases, c.Audit, c.KeyRings)
}

func (a *app) store() *cobra.Command {
	migrate := &cobra.Command{
		Use: "migrate --from PATH|URL --to PATH|URL", Short: "Copy everything into another store, and check it; stop every server before", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, _ := cmd.Flags().GetString("from")
			to, _ := cmd.Flags().GetString("to")
			resume, _ := cmd.Flags().GetBool("resume")
			if from == "" || to == "" || from == to {
				return usagef("--from and --to name two stores, each a path or a URL as in the setting store")
			}
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			if err := started(&configuration{settings: settings{Store: from}}); err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.opened(ctx, c, from, func(source storage.Store) error {
				return a.opened(ctx, c, to, func(target storage.Store) error {
					count, err := transfer.Copy(ctx, source, target, transfer.Options{Resume: resume, Progress: a.progress("copying and checking")})
					if err != nil {
						return err
					}
					return a.counted("Copied and checked", count)
				})
			})
		},
	}
	migrate.Flags().String("from", "", "the store to copy, a path or a URL")
	migrate.Flags().String("to", "", "the store to copy into, a path or a URL")
	migrate.Flags().Bool("resume", false, "go on after an interruption: what is in the target must be the same")
	settingFlags(migrate, nil, "development")

	check := &cobra.Command{
		Use: "check", Short: "Read everything in the store and say what is wrong with it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				problems := []string{}
				if err := o.store.Check(ctx, func(p string) { problems = append(problems, p) }); err != nil {
					return err
				}
				if len(problems) == 0 {
					return a.answer(problems, "Nothing is wrong with the store.\n")
				}
				if err := a.table(problems, "PROBLEMS", func(row func(string, ...any)) {
					for _, p := range problems {
						row("%s", p)
					}
				}); err != nil {
					return err
				}
				return fmt.Errorf("the store has %d problems: restore it from a backup", len(problems))
			})
		},
	}
	operatorFlags(check)
	return group("store", "Look after the store", migrate, check)
}

// opened opens a store for do, and closes it after.
func (a *app) opened(ctx context.Context, c *configuration, location string, do func(storage.Store) error) error {
	s, err := open(ctx, location, c.Development, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// sealer is the master key, which must exist: only it opens a backup again.
func (o *operator) sealer(ctx context.Context) (keys.Master, error) {
	c := *o.configuration
	c.Development = c.Development && c.MasterKey == "" && c.MasterKeyFile == ""
	if c.Development {
		path := c.madeMaster()
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return keys.Master{}, fmt.Errorf("there is no master key at %s: name the one that the server uses with --master-key-file", path)
		}
	}
	return c.master(ctx, o.store, slog.New(slog.DiscardHandler))
}

func (a *app) backup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write everything into one sealed file (- for standard output); the server may run", Args: cobra.ExactArgs(1),
		Long: "Write everything into one file, sealed with the master key: without that the file is\nworth nothing, so keep both, in different places. The server may run meanwhile.\nCounters of throttles, and what has expired, are left out.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd, func(ctx context.Context, o *operator) error {
				m, err := o.sealer(ctx)
				if err != nil {
					return err
				}
				if args[0] == "-" {
					_, err := transfer.Backup(ctx, o.store, m, rand.Reader, time.Now(), a.stdout)
					return err
				}
				var count transfer.Count
				err = replaceFile(args[0], func(w io.Writer) error {
					count, err = transfer.Backup(ctx, o.store, m, rand.Reader, time.Now(), w)
					return err
				})
				if err != nil {
					return err
				}
				return a.counted("Backed up", count)
			})
		},
	}
	operatorFlags(cmd)
	return cmd
}

// replaceFile writes a file, for its owner alone, that is there whole or not
// at all: also after a crash.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return nil
}

func (a *app) restore() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup into an empty store", Args: cobra.ExactArgs(1),
		Long: "Put a backup into an empty store. The file is checked as a whole before anything is written.\n\nSessions and grants are left out, so people sign in once more: those of an old backup may have\nended since, and would come back alive. With --sessions they are put back, too: only if nothing\nwas changed in the store since the backup.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.begin(cmd, func(ctx context.Context, o *operator) error {
				m, err := o.sealer(ctx)
				if err != nil {
					return err
				}
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				sessions, _ := cmd.Flags().GetBool("sessions")
				resume, _ := cmd.Flags().GetBool("resume")
				count, err := transfer.Restore(ctx, f, m, o.store, transfer.Options{Sessions: sessions, Resume: resume, Progress: a.progress("restoring")})
				if err != nil {
					return err
				}
				return a.counted("Restored", count)
			})
		},
	}
	cmd.Flags().Bool("sessions", false, "also the sessions and grants, if nothing was changed since the backup")
	cmd.Flags().Bool("resume", false, "go on after an interruption: what is in the target must be the same")
	operatorFlags(cmd)
	return cmd
}
