package demo

import (
	"testing"

	"killfeed"
)

// The demo's universe knows every place and thing of the demo, and each kind of space that it plays in.
func TestUniverse(t *testing.T) {
	u, err := Universe()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range systems {
		got, ok := u.System(s.ID)
		region, _ := u.Region(got.Region)
		constellation, _ := u.Constellation(got.Constellation)
		if !ok || got.Name != s.Name || region.Name != s.Region || constellation.Name != s.Constellation || constellation.Region != s.RegionID {
			t.Errorf("%s is %+v in %+v in %+v", s.Name, got, constellation, region)
		}
		if id, err := u.Find("system", killfeed.KindSystem, s.Name); err != nil || id != s.ID {
			t.Errorf("%s is found as %d, %v", s.Name, id, err)
		}
	}
	for _, typ := range types {
		got, ok := u.Type(typ.ID)
		group, grouped := u.Group(got.Group)
		if !ok || got.Name != typ.Name || grouped != (typ.GroupID != 0) || group.Name != typ.Group || group.Category != typ.CategoryID {
			t.Errorf("%s is %+v in %+v", typ.Name, got, group)
		}
	}
	for space := killfeed.SpaceHigh; space <= killfeed.SpaceAbyssal; space++ {
		if len(u.Systems(killfeed.Topic{Kind: killfeed.KindSpace, ID: uint32(space)})) == 0 {
			t.Errorf("there is no %s space", space)
		}
	}
	for _, e := range Names() {
		if e.Category == "faction" {
			if f, ok := u.Faction(e.ID); !ok || f.Name != e.Name {
				t.Errorf("%s is %+v", e.Name, f)
			}
		}
	}
	if c, ok := u.Corporation(npcs[concord].corporation); !ok || c.Name != "CONCORD" {
		t.Errorf("%+v", c)
	}
}
