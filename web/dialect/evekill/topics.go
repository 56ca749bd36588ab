package evekill

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"killfeed"
)

const (
	// maxTopics and maxTopic bound the topics of a stream, and each of them in bytes.
	maxTopics, maxTopic = 128, 128
)

// fixed are the topics with names, as filters. Which groups of ships are in a class is EVE-KILL's judgement.
var fixed = map[string]string{
	"solo": "solo=1", "npc": "npc=1",
	"big": "isk>=1b", "bigkills": "isk>=1b", "5b": "isk>=5b", "10b": "isk>=10b",
	"highsec": "space=high", "lowsec": "space=low", "nullsec": "space=null|pochven", "wspace": "space=wormhole", "abyssal": "space=abyssal",
	"frigates":       "victim.group=25|324|830|831|834|893|1283|1527",
	"destroyers":     "victim.group=420|1305|1534",
	"cruisers":       "victim.group=26|358|832|833|894|906|963|1972",
	"battlecruisers": "victim.group=419|540|1201",
	"battleships":    "victim.group=27|898|900",
	"capitals":       "victim.group=30|485|547|659|883|1538|4594",
	"supercarriers":  "victim.group=659",
	"titans":         "victim.group=30",
	"freighters":     "victim.group=513|902",
	// What players put up, and what stands in its place: the groups of the category Structure.
	"citadel": "victim.group=1404|1405|1406|1407|1408|1409|1410|1657|1876|1924|2015|2016|2017|4644|4744",
}

// numbered are the topics with an id, as filters in which it is %s. EVE-KILL does not say of what an id is: they are distinct.
var numbered = map[string]string{
	"system": "system=%s", "constellation": "constellation=%s", "region": "region=%s",
	"victim":   "victim.character=%[1]s,victim.corporation=%[1]s,victim.alliance=%[1]s,victim.faction=%[1]s",
	"attacker": "attacker.character=%[1]s,attacker.corporation=%[1]s,attacker.alliance=%[1]s,attacker.faction=%[1]s",
}

// topicNames are the topics that there are.
func topicNames() []string {
	names := []string{"all"}
	for name := range fixed {
		names = append(names, name)
	}
	for name := range numbered {
		names = append(names, name+".{id}")
	}
	slices.Sort(names)
	return names
}

// parseTopics reads a list of topics and returns what lets their killmails through, nil for all of them. The error is for the
// caller.
func parseTopics(list string, u *killfeed.Universe) (names []string, filter *killfeed.Filter, err error) {
	var rules []string
	all := false
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" || slices.Contains(names, name) {
			continue
		}
		if len(names) == maxTopics {
			return nil, nil, fmt.Errorf("more than %d topics are not accepted", maxTopics)
		}
		if len(name) > maxTopic {
			return nil, nil, fmt.Errorf("a topic of %d bytes is not accepted: want at most %d", len(name), maxTopic)
		}
		rule, known := fixed[name]
		if kind, id, dotted := strings.Cut(name, "."); !known && dotted {
			if _, ok := killfeed.ParseID(id); ok {
				if rule, known = numbered[kind]; known {
					rule = fmt.Sprintf(rule, id)
				}
			}
		}
		switch {
		case name == "all":
			all = true
		case name == "t1" || name == "t2" || name == "t3":
			return nil, nil, fmt.Errorf("topic %s is not served here: the static data has no tech levels", name)
		case !known:
			return nil, nil, fmt.Errorf("topic %q is not known: want some of %s", name, strings.Join(topicNames(), ", "))
		default:
			rules = append(rules, rule)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		names, all = []string{"all"}, true
	}
	if all {
		return names, nil, nil
	}
	filter, err = killfeed.ParseFilter(strings.Join(rules, ","), u)
	if err != nil && u == nil {
		err = errors.New("topics of constellations, regions, kinds of space and ships need static data, which this server does not have " +
			"(killfeed sde update gets it)")
	}
	return names, filter, err
}
