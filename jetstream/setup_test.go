package jetstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// startServer starts a server with that configuration, on a free port of this machine.
func startServer(t *testing.T, config string) *server.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:-1\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

// safeServer is a configuration that lacks nothing.
func safeServer(t *testing.T) string {
	return fmt.Sprintf(`
		server_name: n1
		max_payload: 8MB
		jetstream { store_dir: %q, sync_interval: always }
		accounts {
			SYS { exports: [{service: "$SYS.REQ.SERVER.PING.VARZ", response_type: Stream}] }
			FEED {
				jetstream: enabled
				users: [{user: feed, password: feed}]
				imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ"}}]
			}
		}
		system_account: SYS
		no_auth_user: feed
	`, t.TempDir())
}

func connected(t *testing.T, c Config) *nats.Conn {
	t.Helper()
	nc, err := Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestCreate(t *testing.T) {
	s := startServer(t, safeServer(t))
	nc := connected(t, Config{URLs: []string{s.ClientURL()}})
	o, epoch := Options{Name: "feed", Replicas: 1}, killfeed.Epoch("0123abcd")
	if _, err := Verify(t.Context(), nc, o); !errors.Is(err, ErrNoFeed) {
		t.Errorf("nothing is there: %v, want %v", err, ErrNoFeed)
	}
	for i := range 2 { // it can be repeated
		if err := Create(t.Context(), nc, o, Plan{Epoch: epoch, FirstSeq: 17}); err != nil {
			t.Fatalf("time %d: %v", i+1, err)
		}
	}
	if err := Create(t.Context(), nc, o, Plan{}); err != nil {
		t.Errorf("whatever epoch: %v", err)
	}
	found, err := Verify(t.Context(), nc, o)
	if err != nil || len(found) > 0 {
		t.Fatalf("what was made is not good enough: %v, %v", found, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "feed.events.30000142", nil, jetstream.WithExpectLastSequence(16))
	if err != nil || ack.Sequence != 17 {
		t.Errorf("the first event: %+v, %v; want 17", ack, err)
	}
	kv, err := js.KeyValue(t.Context(), "feed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "client.x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "client.x"); err != nil || string(e.Value()) != "1" {
		t.Errorf("a client: %v, %v", e, err)
	}
	// Another log, another program, more copies than there are servers: left alone.
	for what, err := range map[string]error{
		"another log": Create(t.Context(), nc, o, Plan{Epoch: "fedcba98"}),
		"copies":      Create(t.Context(), nc, Options{Name: "three"}, Plan{}),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want %v", what, err, ErrRefused)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "other", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create": Create(t.Context(), nc, Options{Name: "other", Replicas: 1}, Plan{}),
		"repair": Repair(t.Context(), nc, Options{Name: "other", Replicas: 1}),
		"verify": func() error { _, err := Verify(t.Context(), nc, Options{Name: "other", Replicas: 1}); return err }(),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s a stream of another program: %v, want %v", what, err, ErrRefused)
		}
	}
	if err := Create(t.Context(), nc, Options{Name: "a.b", Replicas: 1}, Plan{}); err == nil {
		t.Error("a name with a dot was accepted")
	}
}

// Each setting that a log can be lost by is refused by its name, and, as far as servers allow that, set right by Repair.
func TestVerifyRefuses(t *testing.T) {
	s := startServer(t, safeServer(t))
	nc := connected(t, Config{URLs: []string{s.ClientURL()}})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "origin", Subjects: []string{"origin"}}); err != nil {
		t.Fatal(err)
	}
	for i, one := range []struct {
		setting string
		bucket  bool
		change  func(c *jetstream.StreamConfig)
		stays   bool // whatever Repair does
	}{
		{"storage", false, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, true},
		{"persist_mode", false, func(c *jetstream.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		}, true},
		{"retention", false, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, false},
		{"retention", false, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, true},
		{"compression", false, func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression }, false},
		{"max_age", false, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, false},
		{"max_msgs", false, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1e6 }, false},
		{"max_bytes", false, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, false},
		{"max_msgs_per_subject", false, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, false},
		{"discard", false, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, false},
		{"max_msg_size", false, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 }, false},
		{"max_consumers", false, func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }, true},
		{"deny_delete", false, func(c *jetstream.StreamConfig) { c.DenyDelete = false }, false},
		{"deny_purge", false, func(c *jetstream.StreamConfig) { c.DenyPurge = true }, true},
		{"no_ack", false, func(c *jetstream.StreamConfig) { c.NoAck = true }, false},
		{"allow_direct", false, func(c *jetstream.StreamConfig) { c.AllowDirect = false }, false},
		{"allow_atomic", false, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, false},
		{"allow_rollup_hdrs", false, func(c *jetstream.StreamConfig) { c.AllowRollup = true }, false},
		{"allow_msg_ttl", false, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, true},
		{"mirror", false, func(c *jetstream.StreamConfig) {
			c.Mirror, c.Subjects, c.FirstSeq, c.AllowAtomicPublish = &jetstream.StreamSource{Name: "origin"}, nil, 0, false
		}, false},
		{"sources", false, func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "origin"}} }, false},
		{"subjects", false, func(c *jetstream.StreamConfig) { c.Subjects = []string{"elsewhere." + c.Name} }, false},
		{"subject_transform", false, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "else.>"}
		}, false},
		{"max_msgs_per_subject", true, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, false},
		{"max_age", true, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, false},
		{"max_bytes", true, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, false},
		{"max_msgs", true, func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }, false},
		{"storage", true, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, true},
		{"allow_direct", true, func(c *jetstream.StreamConfig) { c.AllowDirect = true }, false},
		{"allow_rollup_hdrs", true, func(c *jetstream.StreamConfig) { c.AllowRollup = false }, false},
		{"allow_atomic", true, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, false},
		{"discard", true, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, false},
	} {
		// Names of their own: servers delete files of a stream after they have said that it is gone.
		o := Options{Name: fmt.Sprintf("feed%d", i), Replicas: 1}.filled()
		kind, where := "stream", "stream "+o.Name
		if one.bucket {
			kind, where = "bucket", "bucket "+o.Name
		}
		t.Run(kind+"_"+one.setting, func(t *testing.T) {
			log, bucket := streamConfig(o), bucketConfig(o)
			log.Metadata = map[string]string{metaEpoch: "0123abcd", metaFormat: format}
			if one.bucket {
				one.change(&bucket)
			} else {
				one.change(&log)
			}
			for _, c := range []jetstream.StreamConfig{log, bucket} {
				if _, err := js.CreateStream(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			has := func() bool {
				found, err := Verify(t.Context(), nc, o)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					if f.Unverified || f.Where == "" || f.Is == "" || f.Is == f.Want || f.Fix == "" || f.Why == "" {
						t.Errorf("no good finding: %+v", f)
					}
				}
				refused := Refuse(found)
				if (refused != nil) != (len(found) > 0) || refused != nil && !errors.Is(refused, ErrRefused) {
					t.Errorf("%d findings are refused with %v", len(found), refused)
				}
				return slices.ContainsFunc(found, func(f Finding) bool { return f.Setting == one.setting && f.Where == where })
			}
			if !has() {
				t.Fatalf("%s is not refused", one.setting)
			}
			err := Repair(t.Context(), nc, o)
			if one.stays != has() {
				t.Errorf("after the repair (%v) it is found: %v, want %v", err, !one.stays, one.stays)
			}
			if !one.stays && err != nil {
				t.Error(err)
			}
		})
	}
}

// A hole in the log, where somebody deleted an event.
func TestVerifyHoles(t *testing.T) {
	s := startServer(t, safeServer(t))
	nc := connected(t, Config{URLs: []string{s.ClientURL()}})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "feed", Replicas: 1}.filled()
	c := streamConfig(o)
	c.DenyDelete, c.Metadata = false, map[string]string{metaEpoch: "0123abcd", metaFormat: format}
	stream, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := js.Publish(t.Context(), "feed.events.1", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), nc, o, Plan{}); err != nil { // the bucket
		t.Fatal(err)
	}
	found, err := Verify(t.Context(), nc, o)
	if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return f.Setting == "deleted messages" && f.Is == "1" }) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestVerifyServers(t *testing.T) {
	// servers starts one and returns what is found wrong with it.
	servers := func(t *testing.T, config string, replicas int) []Finding {
		s := startServer(t, config)
		nc := connected(t, Config{URLs: []string{s.ClientURL()}})
		o := Options{Name: "feed", Replicas: 1}
		if err := Create(t.Context(), nc, o, Plan{}); err != nil {
			t.Fatal(err)
		}
		o.Replicas = replicas
		found, err := Verify(t.Context(), nc, o)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	settings := func(found []Finding) (all []string) {
		for _, f := range found {
			name := f.Where + ": " + f.Setting
			if f.Unverified {
				name += " unverified"
			}
			all = append(all, name)
		}
		return all
	}
	safe := safeServer(t)
	for _, one := range []struct {
		name, config string
		replicas     int
		want         []string
	}{
		{"sync", strings.Replace(safe, "sync_interval: always", "sync_interval: 10s", 1), 1, []string{"server n1: sync_interval"}},
		{"no sync named", strings.Replace(safe, ", sync_interval: always", "", 1), 1, []string{"server n1: sync_interval"}},
		{"payload", strings.Replace(safe, "max_payload: 8MB", "", 1), 1, []string{"server n1: max_payload"}},
		{"may not ask", fmt.Sprintf("server_name: n1\nmax_payload: 8MB\njetstream { store_dir: %q }", t.TempDir()), 1,
			[]string{"the servers: sync_interval unverified"}},
		{"copies", safe, 3, []string{"stream feed: num_replicas", "bucket feed: num_replicas"}},
	} {
		t.Run(one.name, func(t *testing.T) {
			if got := settings(servers(t, one.config, one.replicas)); !slices.Equal(got, one.want) {
				t.Errorf("found %q, want %q", got, one.want)
			}
		})
	}
	// As monitoring ports tell it.
	old := []byte(`{"server_name":"n1","version":"2.11.9","max_payload":1048576,"jetstream":{"config":{"sync_interval":120000000000}}}`)
	good := []byte(`{"server_name":"n2","version":"2.12.0","max_payload":8388608,"jetstream":{"config":{"sync_always":true}}}`)
	found, err := verifyServers([][]byte{old, good, good}, []string{"n1", "n2", "n3"})
	want := []string{"server n1: version", "server n1: max_payload", "server n1: sync_interval", "server n3: sync_interval unverified"}
	if got := settings(found); err != nil || !slices.Equal(got, want) {
		t.Errorf("found %q, %v; want %q", got, err, want)
	}
	if _, err := verifyServers([][]byte{[]byte("<html>")}, nil); err == nil {
		t.Error("a page was taken for a server's answer")
	}
}
