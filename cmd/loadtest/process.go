package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server that runs beside us.
type process struct {
	cmd     *exec.Cmd
	address string        // host and port
	log     string        // the file that its standard error goes to
	stdin   io.Closer     // closing it ends the processes of our own program
	ended   chan struct{} // closed when it has ended
}

// start runs a server whose standard error goes to a file in dir. A server of
// our own program says its address in its first line; any other is told.
func start(cmd *exec.Cmd, dir, name, address string) (*process, error) {
	p := &process{cmd: cmd, address: address, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	var stdout io.Reader
	if address == "" {
		if p.stdin, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
		if stdout, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	} else {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("can't start %s: %w", name, err)
	}
	if address == "" {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			cmd.Wait()
			return nil, fmt.Errorf("%s ended before it served: %s", name, p.lastWords())
		}
		p.address = strings.TrimSpace(line)
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// startTime is how long a server may take to be ready: an API may have a
// million revocations to read.
const startTime = 2 * time.Minute

// ready waits until the server is.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+readyPath, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-p.ended:
			return fmt.Errorf("%s ended before it served: %s", filepath.Base(p.cmd.Path), p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready in time: %s", filepath.Base(p.cmd.Path), p.lastWords())
		}
	}
}

// stop ends the process, gently at first.
func (p *process) stop() error {
	if p.stdin != nil {
		p.stdin.Close()
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within 15 seconds of SIGTERM and was killed", filepath.Base(p.cmd.Path))
	}
}

// lastWords is the end of the process's log.
func (p *process) lastWords() string {
	b, _ := os.ReadFile(p.log)
	text := strings.TrimSpace(string(b))
	if lines := strings.Split(text, "\n"); len(lines) > 3 {
		text = strings.Join(lines[len(lines)-3:], "\n")
	}
	if text == "" {
		return "it said nothing"
	}
	return text
}

// usage is what a process has used.
type usage struct {
	cpu      time.Duration // by all of its threads, in user and kernel mode
	children time.Duration // the same of its children that have ended
	rss      int64         // bytes of memory that are resident
}

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture
// that Go runs on.
const tick = time.Second / 100

// usageOf reads /proc (Linux). Elsewhere it is an error, and the table has no
// CPU times.
func usageOf(pid int) (usage, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return usage{}, err
	}
	return parseStat(string(b))
}

// usageOrNone is the CPU time that a process has used, 0 if it can't be read.
func usageOrNone(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	u, _ := usageOf(pid)
	return u.cpu
}

// clocks are CPU times read at one moment, each since its own beginning. What
// can't be read, outside of Linux, stays zero.
type clocks struct {
	watched time.Duration // the process that is measured
	ours    time.Duration // that process and this one
	machine time.Duration // everything, with what the hypervisor took
}

func look(pid int) clocks {
	var c clocks
	self, err := usageOf(os.Getpid())
	if err != nil {
		return c
	}
	c.ours = self.cpu
	if pid == os.Getpid() {
		c.watched = self.cpu
	} else if u, err := usageOf(pid); err == nil && pid != 0 {
		c.watched = u.cpu
		c.ours += u.cpu
	}
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		c.machine = parseMachine(string(b))
	}
	return c
}

// parseMachine reads the first line of /proc/stat, see proc_stat(5): user,
// nice, system, idle, iowait, irq, softirq, steal; what follows is counted in
// the first two already.
func parseMachine(text string) time.Duration {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	var sum int64
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		if i != 3 && i != 4 { // idle and waiting
			sum += n
		}
	}
	return time.Duration(sum) * tick
}

// parseStat reads the line of /proc/<pid>/stat, see proc_pid_stat(5).
func parseStat(line string) (usage, error) {
	// The name may hold spaces and parentheses; what follows does not.
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return usage{}, errors.New("/proc/<pid>/stat: no name")
	}
	const utime, stime, cutime, cstime, rss = 14 - 3, 15 - 3, 16 - 3, 17 - 3, 24 - 3 // counted from 1, after two fields
	fields := strings.Fields(line[end+1:])
	if len(fields) <= rss {
		return usage{}, fmt.Errorf("/proc/<pid>/stat: %d fields after the name, more than %d expected", len(fields), rss)
	}
	var n [5]int64
	for i, field := range []int{utime, stime, cutime, cstime, rss} {
		var err error
		if n[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return usage{}, fmt.Errorf("/proc/<pid>/stat: %w", err)
		}
	}
	return usage{cpu: time.Duration(n[0]+n[1]) * tick, children: time.Duration(n[2]+n[3]) * tick, rss: n[4] * int64(os.Getpagesize())}, nil
}
