package redistest

import (
	"fmt"
	"strings"
	"time"
)

// revive starts servers that were killed, all at once, and resumes those that
// were paused.
func revive(servers []*Server) {
	for _, s := range servers {
		s.tb.Helper()
		s.Resume()
		s.launch()
	}
	for _, s := range servers {
		s.await()
	}
}

// replicating fails until a primary has a replica that follows, or a replica
// follows its primary.
func (s *Server) replicating() error {
	info, err := s.do(time.Second, "INFO", "replication")
	if err != nil {
		return err
	}
	if field(info, "role") == "master" {
		if !strings.Contains(info, "state=online") {
			return fmt.Errorf("%s has no replica that follows", s.Addr)
		}
	} else if field(info, "master_link_status") != "up" {
		return fmt.Errorf("%s does not follow its primary", s.Addr)
	}
	return nil
}

// field returns the value of a line "name:value", as INFO answers them.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
