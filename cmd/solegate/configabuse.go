package main

import (
	"strings"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/keys/verify/reports"
)

// ruleSettings is a rule of the section abuse.
type ruleSettings struct {
	Name            string        `yaml:"name" doc:"What decisions, the audit log and the command line call it: letters, digits and ._-. Required."`
	Kind            string        `yaml:"kind" doc:"Count limit (a limit of the API was exceeded) or judgement (the API reported by itself); both if left away."`
	Reason          string        `yaml:"reason" doc:"Count reports for this reason: the name of the limit, or the API's word; all if left away."`
	Count           int           `yaml:"count" doc:"How many reports it takes; each request beyond a limit is one. Required."`
	Within          time.Duration `yaml:"within" doc:"In how long: 1m to 720h. Required."`
	ResourceServers int           `yaml:"resource_servers" doc:"How many different APIs must each have reported so many; 1 if left away. Each needs a credential of its own (solegate resource register)."`
	Action          string        `yaml:"action" doc:"tell (the log and the audit log), throttle (few logins and refreshes), login (all sessions end, the person signs in again) or suspend (all sessions end, nobody signs in). Required."`
	For             time.Duration `yaml:"for" doc:"How long a throttle or a suspension lasts, 1m to 8760h; until somebody lifts it if left away."`
	Every           time.Duration `yaml:"every" doc:"For throttle: there is one login and one refresh in each such time, 1s to 24h."`
	ExemptUsers     []string      `yaml:"exempt_users" doc:"Names or ids of accounts to which this rule does nothing."`
}

// policy is the section abuse of the configuration.
func (c *configuration) policy() abuse.Policy {
	p := abuse.Policy{
		DryRun: c.Abuse.DryRun, SuspendPerHour: c.Abuse.SuspendPerHour, Keep: c.Abuse.Keep,
		ExemptUsers: userNames(c.Abuse.ExemptUsers), ExemptClients: c.Abuse.ExemptClients,
	}
	for _, r := range c.Abuse.Rules {
		p.Rules = append(p.Rules, abuse.Rule{
			Name: r.Name, Kind: reports.Kind(r.Kind), Reason: r.Reason, Count: r.Count, Within: r.Within, ResourceServers: r.ResourceServers,
			Action: abuse.Action(r.Action), For: r.For, Every: r.Every, ExemptUsers: userNames(r.ExemptUsers),
		})
	}
	return p
}

// userNames are names as they are stored, or ids.
func userNames(list []string) []string {
	var names []string
	for _, name := range list {
		if stored, err := login.NormalizeName(name); err == nil {
			name = stored
		}
		names = append(names, name)
	}
	return names
}

// checkAbuse notes what the server would take for the default.
func (c *configuration) checkAbuse() {
	if c.Abuse.SuspendPerHour == 0 {
		c.mistakef("abuse.suspend_per_hour", "0 is not between 1 and 1000000; to suspend nobody, set abuse.dry_run")
	}
	if c.Abuse.Keep == 0 {
		c.mistakef("abuse.keep", "0s is not between 24h and 43800h")
	}
}

// wrongSetting notes a mistake in a setting that may be one of an item of a
// list, and may not be there: it is then at the item.
func (c *configuration) wrongSetting(setting, text string) {
	if item, key, ok := strings.Cut(setting, "]."); ok && c.origin[setting] == "" && c.origin[item+"]"] != "" {
		c.mistakef(item+"]", "%s: %s", key, text)
		return
	}
	c.mistakef(setting, "%s", text)
}
