package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/solegate/solegate/cmd/demo/script"
	"github.com/solegate/solegate/cmd/demo/stage"
)

// usualApp is where the app is unless -port says otherwise.
const usualApp = "http://127.0.0.1:9002"

// longest is how long the script asks, in case that nothing ever stops it.
const longest = 30 * time.Second

// hammerCommand runs the script beside a demo that is running.
func hammerCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo hammer", flag.ContinueOnError)
	app := flags.String("app", usualApp, "where the app is")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return hammer(ctx, *app, os.Stdin, os.Stdout)
}

// hammer is what a person can try with a program in place of the app: with the
// access token that the app shows, and then with a login of the program's own.
// It asks the API as fast as it can until its token is refused, and shows each
// kind of answer when it comes first.
func hammer(ctx context.Context, app string, in io.Reader, out io.Writer) error {
	s, err := script.New(ctx, app)
	if err != nil {
		return err
	}
	fmt.Fprint(out, "Paste the access token that the app shows, or press Enter to go on without: ")
	line, _ := bufio.NewReader(io.LimitReader(in, 16<<10)).ReadString('\n')
	if token := strings.TrimSpace(line); token != "" {
		all, err := s.Replay(ctx, token)
		if err != nil {
			return err
		}
		fmt.Fprint(out, "\nThe copied token, outside of the browser:\n")
		for _, o := range all {
			fmt.Fprintf(out, "  %d  %s. %s\n", o.Status, o.How, o.Says)
		}
	}
	fmt.Fprintf(out, "\nA login of the script's own, as %s: the same pages, another key, no browser.\n", stage.User)
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "  %s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
	tokens, err := s.SignIn(ctx, stage.User, stage.Password)
	if err != nil {
		return err
	}
	say("signed in")
	answers, began := map[int]int{}, time.Now()
	for n := 1; answers[http.StatusUnauthorized] == 0; n++ {
		a, err := s.Call(ctx, tokens.Access)
		if err != nil {
			return err
		}
		if answers[a.Status]++; answers[a.Status] == 1 {
			say("request %d: %d %s", n, a.Status, told(a))
		}
		if time.Since(began) > longest {
			return fmt.Errorf("%d requests, and nobody minds", n)
		}
	}
	say("%d times 200, %d times 429, then 401", answers[http.StatusOK], answers[http.StatusTooManyRequests])
	if _, err := s.Refresh(ctx, tokens); err != nil {
		say("refresh: %v", err)
	} else {
		say("refresh: new tokens")
	}
	if _, err := s.SignIn(ctx, stage.User, stage.Password); err != nil {
		say("sign in: %v", err)
	} else {
		say("sign in: it worked")
	}
	return nil
}

// told is what an answer says beside its status.
func told(a script.Answer) string {
	var all []string
	for _, name := range []string{"Retry-After", "RateLimit"} {
		if value := a.Header.Get(name); value != "" {
			all = append(all, name+": "+value)
		}
	}
	return strings.Join(append(all, a.Says), " ")
}
