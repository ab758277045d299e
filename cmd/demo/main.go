// Command demo builds the sample app and runs everything on loopback: the
// authorization server, the sample API, the sample app, and a copy of the app
// at another origin. Run it in the repository, with make demo. While it runs,
// demo hammer is a script that asks the API for too much.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/solegate/solegate/cmd/demo/stage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 && os.Args[1] == "hammer" {
		return hammerCommand(ctx, os.Args[2:])
	}
	port := flag.Int("port", 9000, "the first of four ports")
	folder := flag.String("folder", ".demo", "where the demo keeps its store; made if it does not exist")
	source := flag.String("spa", filepath.Join("clients", "spa"), "the sample app's source")
	verbose := flag.Bool("v", false, "show all of the servers' log")
	flag.Parse()

	if err := build(ctx, *source); err != nil {
		return err
	}
	if err := os.MkdirAll(*folder, 0o700); err != nil {
		return fmt.Errorf("the folder %s can't be made: %w; name another one with -folder", *folder, err)
	}
	log := slog.New(newWatch(os.Stdout))
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := stage.Start(ctx, stage.Config{
		Folder: *folder, Files: filepath.Join(*source, "dist"),
		Ports: [4]int{*port, *port + 1, *port + 2, *port + 3}, Log: log,
	})
	if err != nil {
		return err
	}
	script, store := "bin/demo hammer", "--store "+filepath.Join(*folder, "solegate.db")
	if s.SPAURL != usualApp {
		script += " -app " + s.SPAURL
	}
	fmt.Printf(welcome, s.SPAURL, s.CopyURL, s.APIURL, s.AuthURL, stage.User, stage.Password, s.APIURL, script, stage.User, store)
	<-ctx.Done()
	fmt.Println("\nStopping.")
	return s.Close()
}

const welcome = `
Everything is running, on this machine only.

  The app             %s      the one origin that is registered
  A copy of it        %s      the same files, byte for byte
  The API             %s
  The login server    %s

  User name           %s
  Password            %s

Try this:

  1. Open the app and sign in. Call the API, refresh, revoke, sign out.
  2. Open the copy and press its buttons. Each says why it fails. The app shows its
     access token at the bottom: steal it, and let the copy use it.
  3. Write a note, wait a minute, delete all notes: the API wants a fresh login.
  4. Ask the API without a token:  curl -i %s/api/notes
  5. Press "Hammer the API" in the app, and watch it and this terminal: the API answers
     429 and reports the account, the login server suspends it for a minute, and the API
     refuses its token within a second. Then sign in again.
  6. Do the same without a browser, in another terminal:  %[8]s
  7. See what an operator sees, and lift it:
       bin/solegate abuse show %[9]s %[10]s
       bin/solegate audit list --user %[9]s %[10]s
       bin/solegate abuse dismiss %[9]s %[10]s

Ctrl-C stops it all. What the login server is told of accounts follows.

`

// build builds the app if its files are missing or older than its source.
func build(ctx context.Context, source string) error {
	if _, err := os.Stat(filepath.Join(source, "package.json")); err != nil {
		return fmt.Errorf("there is no sample app in %s: run this in the repository's top folder", source)
	}
	fresh, err := built(source)
	if err != nil || fresh {
		return err
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("npm is missing, which builds the sample app: install Node.js 20.19 or newer, which has it")
	}
	fmt.Println("Building the sample app …")
	for _, args := range [][]string{{"ci", "--no-audit", "--no-fund", "--loglevel=error"}, {"run", "--silent", "build"}} {
		cmd := exec.CommandContext(ctx, "npm", args...)
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
			return errors.New("stopped while the sample app was being built")
		} else if err != nil {
			os.Stderr.Write(out)
			return fmt.Errorf("npm %s failed in %s (%w): what it says is above", args[0], source, err)
		}
	}
	return nil
}

// built reports whether dist is newer than everything it is made from.
func built(source string) (bool, error) {
	info, err := os.Stat(filepath.Join(source, "dist", "index.html"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	fresh := true
	newer := func(t time.Time) bool { return t.After(info.ModTime()) }
	err = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "dist"):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		i, err := d.Info()
		if err == nil && newer(i.ModTime()) {
			fresh = false
		}
		return err
	})
	return fresh, err
}
