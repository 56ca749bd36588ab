package killfeed_test

import (
	"archive/tar"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
)

// realData opens a file of real data, and skips the test where there is none.
func realData(t *testing.T, name string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "shared", "data", name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no real data here: ", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// realPlace is a row of the real table, and what it says of the kind of space.
type realPlace struct{ constellation, region, space string }

// realRows reads a table.
func realRows(t *testing.T, name string) [][]string {
	t.Helper()
	z, err := gzip.NewReader(realData(t, name))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func number(t *testing.T, s string) uint32 {
	t.Helper()
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// realUniverse makes static data of the real tables. Where a system is, is returned once more, as the table has it: kinds of
// space by wormhole class, where Universe goes by id and security.
func realUniverse(t *testing.T) (u *killfeed.Universe, places map[uint32]realPlace, groups map[uint32]string) {
	t.Helper()
	var d killfeed.UniverseData
	places, groups = map[uint32]realPlace{}, map[uint32]string{}
	constellations, regions, groupNames := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for _, row := range realRows(t, "systems.csv.gz") {
		s := killfeed.SolarSystem{ID: number(t, row[0]), Name: row[1], Constellation: number(t, row[2]), Region: number(t, row[4]),
			Class: uint8(number(t, row[7]))}
		s.Security, _ = strconv.ParseFloat(row[6], 64)
		d.Systems = append(d.Systems, s)
		if s.Constellation != 0 && !constellations[s.Constellation] {
			constellations[s.Constellation] = true
			d.Constellations = append(d.Constellations, killfeed.Constellation{ID: s.Constellation, Region: s.Region, Name: row[3]})
		}
		if s.Region != 0 && !regions[s.Region] {
			regions[s.Region] = true
			d.Regions = append(d.Regions, killfeed.Region{ID: s.Region, Name: row[5]})
		}
		places[s.ID] = realPlace{constellation: row[2], region: row[4], space: spaceOfClass(s.Class, s.Security)}
	}
	for _, row := range realRows(t, "types-small.csv.gz") {
		ty := killfeed.Type{ID: number(t, row[0]), Name: row[1], Group: number(t, row[2])}
		d.Types = append(d.Types, ty)
		groups[ty.ID] = row[2]
		if !groupNames[ty.Group] {
			groupNames[ty.Group] = true
			d.Groups = append(d.Groups, killfeed.Group{ID: ty.Group, Category: number(t, row[4]), Name: row[3]})
		}
	}
	u, err := killfeed.NewUniverse(d)
	if err != nil {
		t.Fatal(err)
	}
	return u, places, groups
}

func spaceOfClass(class uint8, security float64) string {
	switch {
	case class >= 1 && class <= 6, class >= 12 && class <= 18:
		return "wormhole"
	case class >= 19 && class <= 23:
		return "abyssal"
	case class == 25:
		return "pochven"
	case class == 7, class == 0 && security >= 0.45:
		return "high"
	case class == 8, class == 0 && security > 0:
		return "low"
	}
	return "null"
}

// On the real table the kinds of space are what the game's own classes say.
func TestSpaceOfRealSystems(t *testing.T) {
	u, places, _ := realUniverse(t)
	for id, p := range places {
		if s, ok := u.System(id); !ok || s.Space().String() != p.space {
			t.Errorf("%s (%d, class %d, security %v) is in %v space; by its class it is in %s space",
				s.Name, id, s.Class, s.Security, s.Space(), p.space)
		}
	}
}

// The topics and the filters of places and groups bring as many killmails of a real day as there are in the archive.
func TestPlacesOfARealDay(t *testing.T) {
	u, places, groups := realUniverse(t)
	f := start(t, pebbles{vfs.NewMem()}.open(t), killfeed.Options{Retention: killfeed.DefaultRetention()}).Feed
	want := map[string]int{} // by topic
	total := 0
	archive := tar.NewReader(bzip2.NewReader(realData(t, "killmails-2021-11-30.tar.bz2")))
	var mails []*killfeed.Killmail
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		k, err := killfeed.ParseItem(text)
		if err != nil {
			t.Fatal(err)
		}
		mails = append(mails, k)
		var body struct {
			System uint32 `json:"solar_system_id"`
			Victim struct {
				Ship uint32 `json:"ship_type_id"`
			}
			Attackers []struct {
				Ship uint32 `json:"ship_type_id"`
			}
		}
		if err := json.Unmarshal(text, &body); err != nil {
			t.Fatal(err)
		}
		total++
		p := places[body.System]
		of := map[string]bool{
			"constellation:" + p.constellation: true, "region:" + p.region: true, "space:" + p.space: true,
			"loss:group:" + groups[body.Victim.Ship]: true, "group:" + groups[body.Victim.Ship]: true,
		}
		for _, a := range body.Attackers {
			of["kill:group:"+groups[a.Ship]], of["group:"+groups[a.Ship]] = true, true
		}
		for topic := range of {
			want[topic]++
		}
	}
	// Half of them before the static data is there: topics of places hold for what came earlier, too.
	half := len(mails) / 2
	for i := 0; i < len(mails); i += 500 {
		if i >= half && f.Universe() == nil {
			f.SetUniverse(u)
		}
		if _, err := f.InsertAll(t.Context(), mails[i:min(i+500, len(mails))], 0); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]int{}
	for name, n := range want {
		if strings.HasSuffix(name, ":") { // what the tables do not have
			continue
		}
		topic, err := u.ParseTopic(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := count(t, f, topic, nil); got != n {
			t.Errorf("%s: %d killmails, the archive has %d", name, got, n)
		}
		kind := name[:strings.LastIndexByte(name, ':')]
		if kinds[kind]++; kinds[kind] > 12 && testing.Short() {
			continue
		}
		key, value, _ := strings.Cut(strings.NewReplacer("loss:", "victim.", "kill:", "attacker.").Replace(name), ":")
		filter, err := killfeed.ParseFilter(key+"="+value, u)
		if err != nil {
			t.Fatal(err)
		}
		if got := count(t, f, killfeed.All(), filter); got != n {
			t.Errorf("%s: %d killmails, the archive has %d", filter, got, n)
		}
	}
	t.Logf("%d killmails; topics compared: %v; wormhole %d, abyssal %d, pochven %d", total, kinds,
		want["space:wormhole"], want["space:abyssal"], want["space:pochven"])
}

func count(t *testing.T, f *killfeed.Feed, topic killfeed.Topic, filter *killfeed.Filter) (n int) {
	t.Helper()
	after := killfeed.Cursor{}
	for {
		ans, err := f.ReadAfter(context.Background(), after, killfeed.Read{Topics: []killfeed.Topic{topic}, Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		if n += len(ans.Events); !ans.More {
			return n
		}
		after = ans.Next
	}
}
