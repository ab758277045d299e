package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
)

// TestOperatorsAPIInREADME runs the README's lines.
func TestOperatorsAPIInREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	store := filepath.Join(folder, "solegate.db")
	t.Chdir(folder) // a short path for the socket
	issuer := "http://" + start(t, func(c *configuration) {
		c.Store, c.Admin.Socket, c.Admin.Enabled = store, "admin.sock", true
		c.Password.Memory, c.Password.Time = 8192, 1
	})
	program, err := exec.LookPath("solegate") // testscript.Main puts it there
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(folder, "solegate")); err != nil {
		t.Fatal(err)
	}
	shell := func(lines, stdin string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(lines, "https://login.example.com", issuer))
		cmd.Env = append(os.Environ(), "SOLEGATE_STORE="+store, "SOLEGATE_DEVELOPMENT=true", "SOLEGATE_PASSWORD_MEMORY=8192", "SOLEGATE_PASSWORD_TIME=1")
		cmd.Stdin = strings.NewReader(stdin)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, stderr.String())
		}
		return string(out)
	}
	lines := func(mark string) string {
		t.Helper()
		part := regexp.MustCompile("(?s)<!-- " + mark + ":begin -->\n```\n(.*?)```\n<!-- " + mark + ":end -->").FindSubmatch(readme)
		if part == nil {
			t.Fatalf("the README has no lines between the marks %s", mark)
		}
		return string(part[1])
	}
	shell("./solegate user add alice", authztest.Password+"\n")
	var found struct{ Items []struct{ ID, State string } }
	if out := shell(lines("admin-socket"), ""); json.Unmarshal([]byte(out), &found) != nil || len(found.Items) != 1 || found.Items[0].State != "active" {
		t.Fatalf("the socket answers %s", out)
	}

	register, call, ok := strings.Cut(lines("admin-token"), "curl")
	if !ok {
		t.Fatal("no curl")
	}
	shell(register, "")
	s := &authztest.Server{TB: t, URL: issuer, Address: issuer}
	redirect := "https://console.example.com/callback"
	code := s.Browser().Code("alice", "client_id", "console", "redirect_uri", redirect, "scope", "openid solegate:admin")
	resp, err := http.PostForm(issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"console"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {authztest.Verifier},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var tokens authztest.Tokens
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || tokens.AccessToken == "" {
		t.Fatalf("no token: %v %+v", err, tokens)
	}
	if err := os.WriteFile("token", []byte("Authorization: Bearer "+tokens.AccessToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := shell("ID="+found.Items[0].ID+"; curl"+call, ""); !strings.Contains(out, `"state":"blocked"`) {
		t.Errorf("the API answers %s", out)
	}
}

func dial(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func whoami() string {
	if runtime.GOOS != "linux" {
		return "socket"
	}
	return fmt.Sprintf("socket:uid=%d", os.Getuid())
}

// TestSocketIsTheOwners: it is removed by the server that made it, and by no
// other, and says who is at the other end.
func TestSocketIsTheOwners(t *testing.T) {
	t.Chdir(t.TempDir())
	first, err := listenSocket("s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket("s"); err == nil || !strings.Contains(err.Error(), "a server listens on s") {
		t.Errorf("a second one: %v", err)
	}
	accepted := make(chan string, 1)
	go func() {
		if conn, err := first.Accept(); err == nil {
			accepted <- peer(conn)
			conn.Close()
		}
	}()
	dial(t, "s")
	if got := <-accepted; got != whoami() {
		t.Errorf("the peer is %q, expected is %q", got, whoami())
	}
	first.Close() // as if it had crashed
	second, err := listenSocket("s")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.remove()
	dial(t, "s")
	if info, err := os.Stat("s"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	second.remove()
	if left, err := filepath.Glob(".*"); err != nil || len(left) > 0 {
		t.Errorf("%q is left, %v", left, err)
	}
	if _, err := os.Lstat("s"); err == nil {
		t.Error("the socket is left")
	}

	// Nothing else is ever replaced, nor followed to where a link leads.
	check := func(name string, make func() error, want string) {
		t.Helper()
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if s, err := listenSocket(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		if _, err := os.Lstat(name); len(name) < 100 && name != "no/s" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	const notOne = "is there and is no socket: remove it, or choose another path"
	check("file", func() error { return os.WriteFile("file", nil, 0o600) }, notOne)
	check("folder", func() error { return os.Mkdir("folder", 0o700) }, notOne)
	check("link", func() error { return os.Symlink("nowhere", "link") }, notOne)
	check("no/s", func() error { return nil }, "no such file or directory")
	check(strings.Repeat("x", 104), func() error { return nil }, "103 characters at most")
	// The longest folder does, and says so if one is longer.
	deep := strings.Repeat("x", 89)
	for folder, want := range map[string]string{deep: "that of its folder 88", deep[1:]: ""} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		third, err := listenSocket(folder + "/s")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a folder of %d characters: %v", len(folder), err)
		}
		if err == nil {
			third.Close()
		}
	}
}

// TestOperatorHoldsNoShutdownUp: while a request of an operator's is finished, no
// others are taken.
func TestOperatorHoldsNoShutdownUp(t *testing.T) {
	t.Chdir(t.TempDir()) // a short path for the socket
	stopped := make(chan error, 1)
	if !t.Run("server", func(t *testing.T) {
		address := start(t, func(c *configuration) { c.Admin.Socket = "s" })
		conn, err := net.Dial("unix", "s")
		if err != nil {
			t.Fatal(err)
		}
		half := "POST /admin/users/nobody/block HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
		if _, err := io.WriteString(conn, half); err != nil {
			t.Fatal(err)
		}
		// The server asks for the body, so it is at the request.
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
			t.Fatalf("%q, %v", line, err)
		}
		go func() {
			defer conn.Close()
			for began := time.Now(); ; {
				web, err := net.Dial("tcp", address)
				switch {
				case errors.Is(err, syscall.ECONNREFUSED):
					_, err = io.WriteString(conn, "{}")
					stopped <- err
					return
				case err == nil:
					web.Close()
				}
				if time.Since(began) > 10*time.Second {
					stopped <- errors.New("others are still served")
					return
				}
			}
		}()
	}) {
		return
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
