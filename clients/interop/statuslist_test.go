package interop

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
)

// TestStatusListLibrary: somebody else's library reads our status lists, and
// knows of an end within the ttl that they say.
func TestStatusListLibrary(t *testing.T) {
	if err := installed(); err != nil {
		t.Fatal(err)
	}
	s := authztest.New(t, func(c *authz.Config) { c.StatusList, c.Now = true, time.Now })
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { s.Handler.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	s.AddUser("bob")
	alice, bob := s.SignIn("alice").AccessToken, s.SignIn("bob").AccessToken

	node := nodeFile(t, "statuslist.mjs", "ISSUER="+s.URL, "AUDIENCE="+authztest.Audience)
	var complaints strings.Builder
	node.Stderr = &complaints
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(out)
	ask := func(token string) string {
		t.Helper()
		fmt.Fprintln(in, token)
		if !answers.Scan() {
			t.Fatalf("it ended: %v\n%s", node.Wait(), complaints.String())
		}
		return answers.Text()
	}
	if a, b := ask(alice), ask(bob); a != "good" || b != "good" {
		t.Fatalf("at first alice's is %s and bob's %s", a, b)
	}
	if err := authztest.Operator(s.Store, time.Now).BlockUser(t.Context(), s.User("alice").ID, "test", time.Time{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ask(alice) != "revoked" {
		if time.Since(began) > 10*time.Second {
			t.Fatal("it is good after ten seconds")
		}
		<-ticker.C
	}
	t.Log("it took", time.Since(began))
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("it took %s, six seconds are promised", took)
	}
	if b := ask(bob); b != "good" {
		t.Errorf("bob's is %s", b)
	}
	in.Close()
	if err := node.Wait(); err != nil {
		t.Errorf("%v\n%s", err, complaints.String())
	}
}

// TestVerifyREADMEShowsTheList holds the API's README to the file that is run
// above.
func TestVerifyREADMEShowsTheList(t *testing.T) {
	text, err := os.ReadFile("statuslist.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, from, _ := strings.Cut(string(text), "const lists")
	shown, _, found := strings.Cut(from, "\n// One access token a line.")
	readme, err := os.ReadFile("../../keys/verify/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !found || !strings.Contains(string(readme), "\nconst lists"+shown+"```\n") {
		t.Error("keys/verify/README.md does not show statuslist.mjs as it is")
	}
}
