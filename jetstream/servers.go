package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// What a server must have cannot be seen by a client: sync_interval above all. Servers tell it on their monitoring port, and on
// subjects of the system account, which may let the feed's account ask:
//
//	accounts {
//	  SYS  { exports: [{service: "$SYS.REQ.SERVER.PING.VARZ", response_type: Stream}] }
//	  FEED { imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ"}}] }
//	}
const subjectVarz = "$SYS.REQ.SERVER.PING.VARZ"

// leastServer is the first version of the server that has atomic batches.
const leastServer = "2.12"

// varz is what a server tells of itself, as far as it matters.
type varz struct {
	Name       string `json:"server_name"`
	Version    string `json:"version"`
	MaxPayload int64  `json:"max_payload"`
	JetStream  struct {
		Config *struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
		} `json:"config"`
	} `json:"jetstream"`
}

// askServers asks all servers over the connection, until all of peers have answered or a second has passed. Where the account may not
// ask there is no answer, and no error.
func askServers(ctx context.Context, nc *nats.Conn, peers []string) (answers [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	inbox := nats.NewInbox()
	replies, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("asking the servers for their settings: %w", err)
	}
	defer func() { err = errors.Join(err, replies.Unsubscribe()) }()
	if err := nc.PublishRequest(subjectVarz, inbox, nil); err != nil {
		return nil, fmt.Errorf("asking the servers for their settings: %w", err)
	}
	missing := slices.Clone(peers)
	for {
		m, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return answers, nil // no time left, or nobody who may answer
		}
		var answer struct {
			Server struct{ Name string } `json:"server"`
			Data   json.RawMessage       `json:"data"`
		}
		if len(m.Data) == 0 || json.Unmarshal(m.Data, &answer) != nil || len(answer.Data) == 0 {
			continue
		}
		answers = append(answers, answer.Data)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == answer.Server.Name })
		if len(peers) > 0 && len(missing) == 0 {
			return answers, nil
		}
	}
}

// verifyServers looks at the servers' answers; peers are the servers that should be among them.
func verifyServers(answers [][]byte, peers []string) (found []Finding, err error) {
	var seen []string
	for _, text := range answers {
		var v varz
		if err := json.Unmarshal(text, &v); err != nil || v.Name == "" {
			return nil, fmt.Errorf("what a server tells of itself is no answer to /varz: %.80q", text)
		}
		if slices.Contains(seen, v.Name) {
			continue
		}
		seen = append(seen, v.Name)
		where := "server " + v.Name
		if olderThan(v.Version, leastServer) {
			found = append(found, Finding{Where: where, Setting: "version", Is: v.Version, Want: leastServer + " at least",
				Why: "earlier ones have no atomic batches", Fix: "install a newer nats-server"})
		}
		if v.MaxPayload < maxMessage {
			found = append(found, payloadFinding(where, v.MaxPayload))
		}
		if c := v.JetStream.Config; c != nil && !c.SyncAlways {
			found = append(found, Finding{Where: where, Setting: "sync_interval", Is: c.SyncInterval.String(), Want: "always", Why: syncWhy, Fix: syncFix})
		}
	}
	unseen := "the servers"
	if len(seen) > 0 {
		var names []string
		for _, p := range peers {
			if !slices.Contains(seen, p) && !slices.Contains(names, p) {
				names = append(names, p)
			}
		}
		if len(names) == 0 {
			return found, nil
		}
		unseen = "server " + strings.Join(names, ", ")
	}
	return append(found, Finding{Where: unseen, Setting: "sync_interval", Want: "always", Why: syncWhy, Unverified: true,
		Fix: "nobody may look at it over this connection; name the servers' monitoring ports, or let the account ask " + subjectVarz}), nil
}

const (
	syncWhy = "else a power failure takes back what was acknowledged"
	syncFix = "put 'sync_interval: always' into 'jetstream {…}' in the server's configuration and restart it"
)

func payloadFinding(where string, is int64) Finding {
	return Finding{Where: where, Setting: "max_payload", Is: fmt.Sprint(is), Want: fmt.Sprintf("%d at least", maxMessage),
		Why: "a large killmail has to fit", Fix: "put 'max_payload: 8MB' into the server's configuration and have it read again (nats-server --signal reload)"}
}

// olderThan compares major and minor versions. What is no version is not older.
func olderThan(version, least string) bool {
	var major, minor, leastMajor, leastMinor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(least, "%d.%d", &leastMajor, &leastMinor); err != nil {
		return false
	}
	return major < leastMajor || major == leastMajor && minor < leastMinor
}
