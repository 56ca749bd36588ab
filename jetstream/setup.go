package jetstream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

const (
	// metaEpoch and metaFormat are in the stream's metadata. A stream of another format, or of none, is left alone.
	metaEpoch  = "killfeed-epoch"
	metaFormat = "killfeed-format"
	metaMove   = "killfeed-move"
	format     = "1"
	// maxMessage is what a message may take, and what the servers have to accept.
	maxMessage = 8 << 20
)

// Plan is what a new stream begins with.
type Plan struct {
	// Epoch is that of the log; empty has one drawn, or leaves that of a stream which is there.
	Epoch killfeed.Epoch
	// FirstSeq is the id of the first event; 0 stands for 1.
	FirstSeq uint64
	// Move is set before a log is brought to the servers, so that no node begins with a part of it: see SetMove.
	Move Move
}

// Move says why the log is not on the servers, or not all of it. Nodes refuse to use it then.
type Move string

const (
	// Here: it is all there.
	Here Move = ""
	// Coming: it is being brought there from a directory.
	Coming Move = "coming"
	// Gone: it was taken home to a directory, and may have gone on there.
	Gone Move = "gone"
)

// SetMove notes it in the stream's metadata.
func SetMove(ctx context.Context, nc *nats.Conn, o Options, m Move) error {
	o = o.filled()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	info, err := streamInfo(ctx, js, o.Name)
	if err != nil {
		return err
	}
	if err := ours(info, ""); err != nil || info.Config.Metadata[metaMove] == string(m) {
		return err
	}
	c := info.Config
	if c.Metadata[metaMove] = string(m); m == Here {
		delete(c.Metadata, metaMove)
	}
	try, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	if _, err := js.UpdateStream(try, c); err != nil {
		return asked("noting in the stream "+o.Name+" where the log is", err)
	}
	return nil
}

// ErrNoFeed: the servers have no stream or no bucket of that name.
var ErrNoFeed = errors.New("the servers have no feed of that name")

// Create makes the feed's stream and bucket with settings that lose nothing, and leaves those alone that are there: see Verify. It can
// be repeated. The error is killfeed.ErrUnavailable, wrapped, when the servers do not answer, and ErrRefused when they have a stream of
// that name which is of another log or of another program.
func Create(ctx context.Context, nc *nats.Conn, o Options, p Plan) error {
	o = o.filled()
	if err := checkName(o); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	want := streamConfig(o)
	info, err := streamInfo(ctx, js, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if p.Epoch == "" {
			p.Epoch = killfeed.NewEpoch()
		}
		want.Metadata = map[string]string{metaEpoch: string(p.Epoch), metaFormat: format}
		if p.Move != Here {
			want.Metadata[metaMove] = string(p.Move)
		}
		want.FirstSeq = max(p.FirstSeq, 1)
		if err := create(ctx, js, want); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := ours(info, p.Epoch); err != nil {
			return err
		}
	}
	bucket := bucketConfig(o)
	if _, err := streamInfo(ctx, js, bucket.Name); errors.Is(err, jetstream.ErrStreamNotFound) {
		return create(ctx, js, bucket)
	} else {
		return err
	}
}

// Repair gives the stream and the bucket the settings that they lack, as far as servers change them. What they have beside, such as
// where they are placed, stays. A log that was taken home is no longer Gone: nodes go on with what the servers have.
func Repair(ctx context.Context, nc *nats.Conn, o Options) error {
	o = o.filled()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for _, want := range []jetstream.StreamConfig{streamConfig(o), bucketConfig(o)} {
		info, err := streamInfo(ctx, js, want.Name)
		if err != nil {
			return err
		}
		if want.Name == o.Name {
			if err := ours(info, ""); err != nil {
				return err
			}
			if Move(info.Config.Metadata[metaMove]) == Gone {
				if err := SetMove(ctx, nc, o, Here); err != nil {
					return err
				}
				delete(info.Config.Metadata, metaMove)
			}
		}
		if !slices.ContainsFunc(differences(info, want), func(d difference) bool { return !d.fixed }) {
			continue
		}
		is := info.Config
		want.Description, want.Metadata, want.Placement, want.FirstSeq = is.Description, is.Metadata, is.Placement, is.FirstSeq
		want.RePublish, want.Storage, want.PersistMode = is.RePublish, is.Storage, is.PersistMode // not for change
		try, cancel := context.WithTimeout(ctx, setupTime)
		_, err = js.UpdateStream(try, want)
		cancel()
		if err != nil {
			return asked(fmt.Sprintf("changing the settings of the stream %s", want.Name), err)
		}
	}
	return nil
}

// setupTime is how long one request to the servers may take: making a stream waits for the servers that are to keep it.
const setupTime = 10 * time.Second

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// checkName: the name becomes that of a stream, of a bucket, and a token of subjects.
func checkName(o Options) error {
	if !nameForm.MatchString(o.Name) {
		return fmt.Errorf("%q is no name for a ledger: want 1 to 64 letters, digits, - and _", o.Name)
	}
	if o.Replicas < 1 || o.Replicas > 5 {
		return fmt.Errorf("%d copies of a ledger are not possible: want 3 or 5, or 1 for a single server", o.Replicas)
	}
	return nil
}

// streamConfig is the stream with the events. It has no limit and no age: only the collector removes. It is not compressed: with S2, servers up to
// 2.15.2 at least write blocks that they cannot read again ("error reading compression reader: s2: corrupt input") when events are purged
// while others are appended, and then keep no copy of the stream until they are restarted.
func streamConfig(o Options) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: o.Name, Description: "The events of a killfeed; only killfeed writes here", Subjects: []string{subjectEvents(o.Name)},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: o.Replicas,
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: maxMessage,
		// No event is told from another by Nats-Msg-Id, so the least that servers accept.
		Duplicates: 100 * time.Millisecond,
		DenyDelete: true, AllowDirect: true, AllowAtomicPublish: true, Compression: jetstream.NoCompression,
	}
}

// bucketConfig is the stream below the bucket. Values are read from the leader (no AllowDirect): a stale one would be harmless for
// updates, which name the revision they change, and not for decisions.
func bucketConfig(o Options) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + o.Name, Description: "The clients and nodes of a killfeed; only killfeed writes here", Subjects: []string{"$KV." + o.Name + ".>"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: o.Replicas,
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: 1, MaxMsgSize: maxMessage,
		Duplicates: 100 * time.Millisecond,
		DenyDelete: true, AllowRollup: true, AllowAtomicPublish: true, Compression: jetstream.NoCompression,
	}
}

func create(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	try, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	if _, err := js.CreateStream(try, c); err != nil {
		return asked(fmt.Sprintf("making the stream %s with %d copies", c.Name, c.Replicas), err)
	}
	return nil
}

// streamInfo asks the stream's leader. The error is jetstream.ErrStreamNotFound when there is none.
func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	try, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	stream, err := js.Stream(try, name)
	if err != nil {
		return nil, asked("looking at the stream "+name, err)
	}
	return stream.CachedInfo(), nil
}

// asked says what an error of the servers means. Those that pass by themselves become killfeed.ErrUnavailable.
func asked(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%s: %w: JetStream is off for the account of these credentials (%w)", what, ErrRefused, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled): // or none of those that run with it is there
		return fmt.Errorf("%s: %w: the servers run without JetStream, or have only just started; 'jetstream {…}' in their configuration "+
			"switches it on (%w)", what, killfeed.ErrUnavailable, err)
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch {
		case e.ErrorCode == errCodeNoPeers:
			return fmt.Errorf("%s: %w: too few servers with JetStream and room for it are there (%w)", what, killfeed.ErrUnavailable, err)
		case e.ErrorCode == errCodeNoCluster:
			return fmt.Errorf("%s: %w: the server is a single one and keeps a single copy (%w)", what, ErrRefused, err)
		case e.Code < 500:
			return fmt.Errorf("%s: %w: %w", what, ErrRefused, err)
		}
	}
	return fmt.Errorf("%s: %w: the servers do not answer; fewer than half of them may be reachable (%w)", what, killfeed.ErrUnavailable, err)
}

const (
	errCodeNoPeers   = 10005 // no suitable peers for placement
	errCodeNoCluster = 10074 // replicas > 1 not supported in non-clustered mode
)

// ours tells a stream of another program, and one of another log.
func ours(info *jetstream.StreamInfo, epoch killfeed.Epoch) error {
	name, meta := info.Config.Name, info.Config.Metadata
	if f, ok := meta[metaFormat]; !ok {
		return fmt.Errorf("the stream %s is %w: it was not made by killfeed; choose another name for the ledger", name, ErrRefused)
	} else if f != format {
		return fmt.Errorf("the stream %s is %w: it is of format %q, and this killfeed knows %q; use the killfeed that made it", name, ErrRefused, f, format)
	}
	has := killfeed.Epoch(meta[metaEpoch])
	if !has.Valid() {
		return fmt.Errorf("the stream %s is %w: its epoch %q is none", name, ErrRefused, has)
	}
	if epoch != "" && has != epoch && info.State.LastSeq == 0 {
		return fmt.Errorf("the stream %s is %w: it is that of another log, which is empty; delete the stream %[1]s and the stream KV_%[1]s, or choose "+
			"another name for the ledger", name, ErrRefused)
	}
	if epoch != "" && has != epoch {
		return fmt.Errorf("the stream %s is %w: it holds another log, of epoch %s, and not that of epoch %s; choose another name for the ledger",
			name, ErrRefused, has, epoch)
	}
	return nil
}

// Finding is a setting that does not do, or one that nobody could look at.
type Finding struct {
	// Where is what has it: "stream killfeed", "bucket killfeed", "server n1".
	Where string `json:"where"`
	// Setting is its name, as the servers' configuration spells it.
	Setting string `json:"setting"`
	// Is and Want are its value, and what it must be.
	Is   string `json:"is"`
	Want string `json:"want"`
	// Fix says how to set it, Why what it is for.
	Fix string `json:"fix"`
	Why string `json:"why"`
	// Unverified: nobody could look. It is a warning; all others are refused.
	Unverified bool `json:"unverified,omitempty"`
}

// String is the finding as one line.
func (f Finding) String() string {
	if f.Unverified {
		return fmt.Sprintf("not verified: %s of %s, which must be %s (%s): %s", f.Setting, f.Where, f.Want, f.Why, f.Fix)
	}
	return fmt.Sprintf("%s: %s is %s and must be %s (%s): %s", f.Where, f.Setting, f.Is, f.Want, f.Why, f.Fix)
}

// Refuse is ErrRefused with what was found unsafe, each on a line of its own; nil when nothing was.
func Refuse(found []Finding) error {
	var all []error
	for _, f := range found {
		if !f.Unverified {
			all = append(all, fmt.Errorf("unsafe, so %w: %s", ErrRefused, f))
		}
	}
	return errors.Join(all...)
}

// Verify looks at all settings of the stream, the bucket and the servers that a log can be lost by. varz are the answers of servers to
// /varz on their monitoring ports; without any, the servers are asked over the connection, if they let its account.
//
// The error is ErrNoFeed when there is no stream or bucket, killfeed.ErrUnavailable when the servers do not answer, and ErrRefused when
// the stream is not one of killfeed's; nothing was found out then. All are wrapped.
func Verify(ctx context.Context, nc *nats.Conn, o Options, varz ...[]byte) ([]Finding, error) {
	o = o.filled()
	if err := checkName(o); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var (
		found []Finding
		peers []string
	)
	for _, want := range []jetstream.StreamConfig{streamConfig(o), bucketConfig(o)} {
		info, err := streamInfo(ctx, js, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, fmt.Errorf("%w: there is no stream %s", ErrNoFeed, want.Name)
		}
		if err != nil {
			return nil, err
		}
		where := "stream " + want.Name
		if want.Name != o.Name {
			where = "bucket " + o.Name
		} else if err := ours(info, ""); err != nil {
			return nil, err
		}
		for _, d := range differences(info, want) {
			found = append(found, d.finding(where))
		}
		if f, ok := moveFinding(where, Move(info.Config.Metadata[metaMove])); ok {
			found = append(found, f)
		}
		peers = append(peers, peersOf(info)...)
	}
	if n := nc.MaxPayload(); n < maxMessage {
		found = append(found, payloadFinding("server "+nc.ConnectedServerName(), n))
	}
	if len(varz) == 0 {
		if varz, err = askServers(ctx, nc, peers); err != nil {
			return nil, err
		}
	}
	servers, err := verifyServers(varz, peers)
	if err != nil {
		return nil, err
	}
	for _, f := range servers { // the server of this connection may be told already
		if !slices.Contains(found, f) {
			found = append(found, f)
		}
	}
	return found, nil
}

// SettingMove is the Setting of a finding that is about a Move.
const SettingMove = metaMove

func moveFinding(where string, m Move) (Finding, bool) {
	f := Finding{Where: where, Setting: metaMove, Is: string(m), Want: "not set"}
	switch m {
	case Here:
		return Finding{}, false
	case Coming:
		f.Why = "only a part of the log is there"
		f.Fix = "repeat 'killfeed cluster init --data' with the same directory, to its end"
	default:
		f.Why = "the log was taken home, and may have gone on there"
		f.Fix = "'killfeed cluster init --data' with that directory brings it back; 'killfeed cluster init --repair' goes on without it"
	}
	return f, true
}

// difference is a setting of a stream that does not do.
type difference struct {
	setting, is, want, why string
	// fixed: servers do not change it of a stream that is there.
	fixed bool
}

func (d difference) finding(where string) Finding {
	fix := "'killfeed cluster init --repair' sets it"
	if d.fixed {
		fix = "it cannot be changed: 'killfeed cluster leave' takes the log home, then delete the stream and make it anew with 'killfeed cluster init --data'"
	}
	return Finding{Where: where, Setting: d.setting, Is: d.is, Want: d.want, Why: d.why, Fix: fix}
}

// differences are the settings of the stream or the bucket that do not do.
func differences(info *jetstream.StreamInfo, want jetstream.StreamConfig) (all []difference) {
	is := info.Config
	add := func(wrong bool, setting string, has, wanted any, fixed bool, why string) {
		if wrong {
			all = append(all, difference{setting, fmt.Sprint(has), fmt.Sprint(wanted), why, fixed})
		}
	}
	limit := func(n int64) string {
		if n <= 0 {
			return "unlimited"
		}
		return fmt.Sprint(n)
	}
	removes := "else servers remove events that a reader has not had"
	add(is.Replicas < want.Replicas, "num_replicas", is.Replicas, fmt.Sprintf("%d at least", want.Replicas), false,
		"with fewer copies a lost server loses the log")
	add(is.Storage != want.Storage, "storage", is.Storage, want.Storage, true, "memory is gone with the server")
	add(is.PersistMode != jetstream.DefaultPersistMode, "persist_mode", "async", "default", true,
		"else a write is acknowledged before it is stored")
	add(is.Compression != want.Compression, "compression", is.Compression, want.Compression, false,
		"servers write compressed blocks that they cannot read again")
	add(is.Retention != want.Retention, "retention", is.Retention, want.Retention, is.Retention == jetstream.WorkQueuePolicy, removes)
	add(is.MaxAge != 0, "max_age", is.MaxAge, 0, false, removes)
	add(is.MaxMsgs > 0, "max_msgs", limit(is.MaxMsgs), limit(0), false, removes)
	add(is.MaxBytes > 0, "max_bytes", limit(is.MaxBytes), limit(0), false, removes)
	add(max(is.MaxMsgsPerSubject, 0) != max(want.MaxMsgsPerSubject, 0), "max_msgs_per_subject", limit(is.MaxMsgsPerSubject),
		limit(want.MaxMsgsPerSubject), false, removes)
	add(is.Discard != want.Discard, "discard", is.Discard, want.Discard, false, "a full stream has to refuse, and not to remove")
	add(is.MaxMsgSize > 0 && is.MaxMsgSize < maxMessage, "max_msg_size", is.MaxMsgSize, fmt.Sprintf("%d at least", maxMessage), false,
		"a large killmail has to fit")
	add(is.MaxConsumers > 0, "max_consumers", limit(int64(is.MaxConsumers)), limit(0), true, "each node needs one")
	add(!is.DenyDelete, "deny_delete", is.DenyDelete, true, false, "else single events can be taken out of the log")
	add(is.DenyPurge, "deny_purge", is.DenyPurge, false, true, "else the collector cannot give space back")
	add(is.Sealed, "sealed", is.Sealed, false, true, "nothing can be written")
	add(is.NoAck, "no_ack", is.NoAck, false, false, "nobody would know what is stored")
	add(is.AllowDirect != want.AllowDirect, "allow_direct", is.AllowDirect, want.AllowDirect, false, directWhy(want.AllowDirect))
	add(!is.AllowAtomicPublish, "allow_atomic", is.AllowAtomicPublish, true, false, "a batch has to be stored whole or not at all")
	add(is.AllowRollup != want.AllowRollup, "allow_rollup_hdrs", is.AllowRollup, want.AllowRollup, false, rollupWhy(want.AllowRollup))
	add(is.AllowMsgTTL && !want.AllowRollup, "allow_msg_ttl", is.AllowMsgTTL, false, true, removes) // of the events; a bucket may
	add(is.AllowMsgCounter, "allow_msg_counter", is.AllowMsgCounter, false, true, "messages would be counters")
	add(is.Mirror != nil, "mirror", mirrorName(is.Mirror), "none", false, "a mirror takes nothing from killfeed")
	add(len(is.Sources) > 0, "sources", fmt.Sprintf("%d streams", len(is.Sources)), "none", false, "others would write into the log")
	add(!slices.Equal(is.Subjects, want.Subjects), "subjects", quoted(is.Subjects), quoted(want.Subjects), false,
		"others would write into the log, or nobody")
	add(is.SubjectTransform != nil, "subject_transform", "set", "none", false, "subjects have to stay as they are")
	if !want.AllowRollup { // the log
		add(info.State.NumDeleted > 0, "deleted messages", info.State.NumDeleted, "none between the first and the last", true,
			"somebody took events out of the log")
	}
	return all
}

func directWhy(want bool) string {
	if want {
		return "nodes read old events from any server"
	}
	return "clients must be read from the leader, for another server may be behind"
}

func rollupWhy(want bool) string {
	if want {
		return "deleted clients have to go"
	}
	return "else one message could remove all others"
}

func mirrorName(s *jetstream.StreamSource) string {
	if s == nil {
		return "none"
	}
	return s.Name
}

func quoted(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// peersOf are the names of the servers that keep the stream.
func peersOf(info *jetstream.StreamInfo) (names []string) {
	if info.Cluster == nil {
		return nil
	}
	if info.Cluster.Leader != "" {
		names = append(names, info.Cluster.Leader)
	}
	for _, p := range info.Cluster.Replicas {
		names = append(names, p.Name)
	}
	return names
}
