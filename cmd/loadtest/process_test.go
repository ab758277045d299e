package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 20 0 9 0 999 123456789 256 18446744073709551615 1"
	want := usage{cpu: 2 * time.Second, children: 270 * time.Millisecond, rss: 256 * int64(os.Getpagesize())}
	for _, name := range []string{"solegate", "a (b) c", ") 1 2", ""} {
		if got, err := parseStat("4711 (" + name + ")" + rest); err != nil || got != want {
			t.Errorf("named %q: %+v, %v; %+v expected", name, got, err, want)
		}
	}
	for _, line := range []string{"", "4711 solegate", "4711 (solegate) S 1 2 3", "4711 (solegate) S 1 2 3 4 5 6 7 8 9 10 x y 13 14 20 0 9 0 999 123456789 256 1"} {
		if got, err := parseStat(line); err == nil {
			t.Errorf("%q gave %+v, an error expected", line, got)
		}
	}
}

func TestFileSystem(t *testing.T) {
	const mounts = `/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdb /tmp/disk xfs rw 0 0
broken
`
	for path, want := range map[string]string{
		"/home/x": "ext4", "/tmp": "tmpfs", "/tmp/x": "tmpfs", "/tmpx": "ext4", "/tmp/disk/x": "xfs",
	} {
		if got := fileSystem(mounts, path); got != want {
			t.Errorf("%s is on %q, %q expected", path, got, want)
		}
	}
	if got := fileSystem("", "/x"); got != "" {
		t.Errorf("without mounts: %q", got)
	}
}

func TestParseMachine(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"cpu  100 20 30 9999 9999 4 5 41 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n": 2 * time.Second,
		"cpu  100 20 30 9999 9999 4 5 41":                                 2 * time.Second,
		"cpu  100 20 30":                                                  0,
		"intr 1 2 3 4 5 6 7 8 9":                                          0,
		"cpu  a b c d e f g h i j":                                        0,
		"":                                                                0,
	} {
		if got := parseMachine(text); got != want {
			t.Errorf("%q gave %s, %s expected", text, got, want)
		}
	}
}
