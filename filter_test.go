package killfeed_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// The spellings of the language, with the text that each comes down to.
func TestParseFilter(t *testing.T) {
	u := storetest.Universe()
	deep := strings.Repeat("(", 16) + "war_id=1" + strings.Repeat(")", 16)
	many := "war_id=" + strings.Repeat("1|", 1999) + "1"
	for _, test := range []struct{ text, want string }{
		{"alliance_id=1234,4321,5678", "alliance=1234|4321|5678"},
		{"alliance_id=1,alliance_id=2", "alliance=1|2"},
		{"alliance_id=2|1|2", "alliance=1|2"},
		{"alliance_id=1|2,3|4,corporation_id=5,6", "alliance=1|2|3|4,corporation=5|6"},
		{"alliance_id!=1|2", "alliance!=1|2"},
		{"alliance_id!=1,alliance_id!=2", "alliance!=1,alliance!=2"},
		{"alliance_id>0", "alliance>0"},
		{" isk >= 1B ; npc = No ", "isk>=1B;npc=false"},
		{"value<10k;totalValue>1.5t", "isk<10k;isk>1.5t"},
		{"fittedValue>=250m", "fittedValue>=250m"},
		{"solo=1;awox=yes;final_blow=TRUE", "solo=true;awox=true;final_blow=true"},
		{"labels=solo|#:5+", "label=#:5+|solo"},
		{`label="a,b"`, `label="a,b"`},
		{`label="plain"`, "label=plain"},
		{`label="q\"b\\s"`, `label="q\"b\\s"`},
		{`label=" x "`, `label=" x "`},
		{`hash=""`, `hash=""`},
		{`label=back\slash`, `label=back\slash`},
		{`label=a,"b;c",d`, `label=a|"b;c"|d`},
		{"system=jita|Amarr", "system=30000142|30002187"},
		{"solar_system_id=30000142;system_id=30000142", "system=30000142;system=30000142"},
		{"region=The Forge;constellation=Kimotoro", "region=10000002;constellation=20000020"},
		{"region=the  forge,Delve", "region=10000002|10000060"},
		{"space=highsec|wh", "space=high|wormhole"},
		{"group=frigate;ship=Rifter", "group=25;ship=587"},
		{"loss.ship_type_id=587", "victim.ship=587"},
		{"kill.alliance=1;attackers.alliance=2;attacker.alliance=3", "attacker.alliance=1;attacker.alliance=2;attacker.alliance=3"},
		{"final.group=Titan,final.character_id=90000001", "final.group=30,final.character=90000001"},
		{"faction=Guristas Pirates;corporation=guristas", "faction=500010;corporation=1000127"},
		{"weapon=Drake;item=Tritanium;item_type_id=35", "weapon=24698;item=34;item=35"},
		{"attackers>=10", "attackers>=10"},
		{"killmail_time>=2026-11-22T00:00:00Z", "killmail_time>=2026-11-22T00:00:00Z"},
		{"some other key=some value", "some other key=some value"},
		{"(a=1)", "a=1"},
		{"(a=1;b=2);c=3", "a=1;b=2;c=3"},
		{"(a=1;b=2),c=3", "(a=1;b=2),c=3"},
		{"!(a=1)", "a!=1"},
		{"!(a!=1)", "a=1"},
		{"! ( a<1 )", "!(a<1)"},
		{"!(!((a=1;b=2)))", "a=1;b=2"},
		{"!(a=1;b=2);c=3", "!(a=1;b=2);c=3"},
		{"a=1;(b=2,(c=3;!(d=4,e=5)))", "a=1;(b=2,(c=3;!(d=4,e=5)))"},
		{"a=1,(a=2,a=3)", "a=1|2|3"},
		{"a=1,(b=2;c=3),a=4", "a=1|4,(b=2;c=3)"},
		{"(a=1),(b=2),(a=3)", "a=1|3,b=2"},
		{"b=2,a=3,b=1|4,a!=3,a=1,(a=3;b=1)", "b=1|2|4,a=1|3,a!=3,(a=3;b=1)"},
		{"victim.ship=1,ship=2,attacker.ship=3,victim.ship=4", "victim.ship=1|4,ship=2,attacker.ship=3"},
		{"a<1,b=2,a<3", "a<1,b=2,a<3"},
		{"a=007", "a=007"},
		{deep, "war_id=1"},
		{many, "war_id=1"},
	} {
		f, err := killfeed.ParseFilter(test.text, u)
		if err != nil {
			t.Errorf("%.80q: %v", test.text, err)
			continue
		}
		if got := f.String(); got != test.want {
			t.Errorf("%.80q comes down to %q, want %q", test.text, got, test.want)
		}
		again, err := killfeed.ParseFilter(f.String(), u)
		if err != nil || again.String() != f.String() {
			t.Errorf("%q, made of %.80q: %v, %v", f, test.text, again, err)
		}
	}
}

// What is no filter, and what its reader is told.
func TestParseFilterErrors(t *testing.T) {
	u := storetest.Universe()
	for _, test := range []struct{ text, value, want string }{
		{"", "", "a rule such as"},
		{" \n", "", "a rule such as"},
		{"a=1;b=2,c=3", "a=1;b=2,c=3", "use both put parentheses"},
		{"a=1,b=2;c=3", "a=1,b=2;c=3", "or | between values"},
		{"a=1;b=2,3", "a=1;b=2,3", "either ; (AND) or , (OR)"},
		{"1234", "1234", "a key, an operator"},
		{"a=1;2", "2", "a key, an operator"},
		{"(a=1),2", "2", "only behind a rule with ="},
		{"alliance_id!=1,2", "2", "none of several values is key!=a|b"},
		{"isk>1,000,000", "000", "only behind a rule with ="},
		{"=1", "=1", "a key before the operator"},
		{"a=", "a=", "a value behind each operator"},
		{"a=1|", "a=1|", "a value behind each operator and each |"},
		{"a=|1", "a=", "a value behind each operator"},
		{"a=1;", "a=1;", "a rule"},
		{";a=1", ";a=1", "a rule"},
		{"a=1,,b=2", ",b=2", "a rule"},
		{"()", ")", "a rule"},
		{"a=b=c", "b=c", "a value in double quotes"},
		{"a==1", "=1", "a value in double quotes"},
		{"isk=>1b", ">1b", "one of the operators = != < <= > >= behind isk"},
		{"isk>1b and npc=0", "1b and npc=0", "; (AND) or , (OR) between rules"},
		{"ship=Hoarder (x)", "Hoarder (x)", `double quotes when it has any of =!<>()"|;, in it, as in ship="…"`},
		{"ship=aa,Hoarder (x)", "aa", "the id or name of a type"},
		{"item=34,Hoarder (x)", "Hoarder (x)", `as in item="…"`},
		{`label=5" gun`, `5" gun`, "a value in double quotes"},
		{`label="a" b`, "b", "; or , or nothing more"},
		{`label="a`, `"a`, "a second double quote"},
		{`label="a\n"`, `"a\n`, `\" for a quote`},
		{`label="a\`, `"a\`, `\" for a quote`},
		{"!a=1", "!a=1", "!( before what must not be"},
		{"(a=1", "(a=1", "a ) for each ("},
		{"a=1)", ")", "a ( before each )"},
		{"a<1|2", "|2", "one value behind a<"},
		{"label>a", "label>", "label with = or !="},
		{"region<3", "region<", "region with = or !="},
		{"npc>0", "npc>", "npc with = or !="},
		{"npc=maybe", "maybe", "npc to be true or false"},
		{"isk>lots", "lots", "250m, 1.5b"},
		{"isk>1e3k", "1e3k", "250m, 1.5b"},
		{"isk>k", "k", "250m, 1.5b"},
		{"attackers=many", "many", "attackers= with a number"},
		{"attackers>10k", "10k", "attackers> with a number"},
		{"alliance_id>x", "x", "alliance_id> with a number"},
		{"alliance_id=x", "x", "the id of a"},
		{"alliance_id=0", "0", "whether there is any says alliance>0"},
		{"victim.alliance_id!=0", "0", "says victim.alliance>0"},
		{"system=Jitaa", "Jitaa", "did you mean Jita (30000142)"},
		{"region=The Forgr", "The Forgr", "did you mean The Forge"},
		{"region=Forge", "Forge", "did you mean The Forge"},
		{"ship=Riffter", "Riffter", "did you mean Rifter (587)"},
		{"weapon=Riffter", "Riffter", "did you mean Rifter (587)"},
		{"group=Frigates", "Frigates", "did you mean Frigate (25)"},
		{"space=outer", "outer", "high, low, null"},
		{"zkb.totalValue>1b", "zkb.totalValue", "a member's name alone"},
		{"victim.damage_taken>1", "victim.damage_taken", "character, corporation, alliance"},
		{"loss.system=Jita", "loss.system", "behind loss."},
		{"a=\xff", "a=\uFFFD", "valid UTF-8"},
		{strings.Repeat("(", 17) + "a=1" + strings.Repeat(")", 17), "(a=1" + strings.Repeat(")", 17), "at most 16 deep"},
		{"a=" + strings.Repeat("1|", 2000) + "1", "a=" + strings.Repeat("1|", 29) + "1...", "at most 2000 values"},
		{"a=" + strings.Repeat("1", killfeed.MaxFilter), "a=" + strings.Repeat("1", 59) + "...", "at most 65536 bytes"},
	} {
		_, err := killfeed.ParseFilter(test.text, u)
		var bad *killfeed.InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%.80q: error %v, want an InvalidError", test.text, err)
			continue
		}
		if bad.Param != "filter" || bad.Value != test.value || !strings.Contains(bad.Want, test.want) {
			t.Errorf("%.80q: %v\nwant of filter, %q: …%s…", test.text, err, test.value, test.want)
		}
	}
}

// Without static data ids are all there is, and some things are not known at all.
func TestParseFilterWithoutUniverse(t *testing.T) {
	for _, text := range []string{"system=30000142", "ship=587;weapon=2456", "victim.alliance=99000001", "isk>1b", "space_id=1"} {
		if _, err := killfeed.ParseFilter(text, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"region=10000002", "constellation=Kimotoro", "space=high", "group=25", "victim.group=25", "system=Jita", "ship=Rifter",
		"item=Tritanium", "region_id!=10000002",
	} {
		_, err := killfeed.ParseFilter(text, nil)
		var bad *killfeed.InvalidError
		if !errors.As(err, &bad) || bad.Param != "filter" || !strings.Contains(bad.Want, "static data") {
			t.Errorf("%q: error %v, want one that says that static data is needed", text, err)
		}
	}
}

// filterMail is a killmail with everything in it that the rules of the language are about.
const filterMail = `{"attackers":[` +
	`{"alliance_id":99000002,"character_id":90000002,"corporation_id":98000002,"damage_done":4200,"final_blow":true,` +
	`"security_status":-9.9,"ship_type_id":17715,"weapon_type_id":24698},` +
	`{"corporation_id":1000127,"damage_done":0,"faction_id":500010,"final_blow":false,"security_status":0,"ship_type_id":24130}],` +
	`"killmail_id":100000001,"killmail_time":"2026-01-31T12:34:56Z","solar_system_id":30000142,` +
	`"victim":{"alliance_id":99000001,"character_id":90000001,"corporation_id":98000001,"damage_taken":4200,` +
	`"items":[{"flag":5,"item_type_id":34,"items":[{"flag":0,"item_type_id":35}]}],"position":{"x":-2.5e2},"ship_type_id":587},` +
	`"odd":[1,["two",null],{"inner":"x"}],"big":9007199254740993,"big":[],"text":"12.0","esc\u0061ped":"a\/\u20ac\ud83d\ude00",` +
	`"note":"free \"text\"","zkb":{"totalValue":1500000000.5,"npc":false,"solo":true,"labels":["solo","loc:highsec",7,["deep"]],"hash":null}}`

func TestFilterMatch(t *testing.T) {
	u := storetest.Universe()
	k, err := killfeed.NewKillmail(30000142, []byte(filterMail))
	if err != nil {
		t.Fatal(err)
	}
	event := killfeed.Event{ID: 1, SystemID: k.SystemID, Killmail: k.JSON}
	for _, test := range []struct {
		text string
		want bool
	}{
		// Members at any depth; killID is another name of killmail_id.
		{"killID=100000001", true}, {"killmail_id=100000001", true}, {"killID>100000001", false},
		{"flag=5", true}, {"flag=0", true}, {"flag=6", false}, {"inner=x", true}, {"x=-250", true}, {"x<-249.5", true},
		{"odd=1", true}, {"odd=two", true}, {"odd=null", true}, {"odd=x", false}, {"odd!=1", false}, {"odd!=3", true},
		{"position=5", false}, {"position!=5", true}, {"items!=5", true},
		{"damage_done>4199", true}, {"damage_done>4200", false}, {"security_status<0;security_status>=0", true},
		// A member that is not there.
		{"war_id=1", false}, {"war_id!=1", true}, {"war_id<1", false}, {"!(war_id<1)", true}, {"nothing=", false}, {`nothing=""`, false},
		// Numbers and texts.
		{"text=12", true}, {"text=12.0", true}, {"text=12.00", true}, {"text=012", false}, {"text>9", true}, {"text>9x", false},
		{"big=9007199254740993", true}, {"big=9007199254740992", false}, {"big>9007199254740992", true}, {"big=9007199254740992.0", true},
		{"killmail_time>=2026-01-31", true}, {"killmail_time<2026-01-31T12:34:57Z", true},
		{"escaped=a/€😀", true}, {`note="free \"text\""`, true}, {"solo=true", true}, {"npc=true", false}, {"hash=null", true},
		// What topics are made of.
		{"character_id=90000002", true}, {"victim.character_id=90000002", false}, {"attacker.character=90000002", true},
		{"final.character=90000002", true}, {"final.corporation=1000127", false}, {"kill.corporation=Guristas", true},
		{"faction>0", true}, {"victim.faction>0", false}, {"victim.faction!=500010", true}, {"faction!=500010", false},
		{"alliance=1|99000001", true}, {"alliance!=1|99000001", false}, {"alliance_id=1,99000001", true},
		{"system=Jita", true}, {"solar_system_id=30000142", true}, {"solar_system_id<30000142", false}, {"system!=Amarr", true},
		{"region=The Forge", true}, {"constellation=Kimotoro", true}, {"constellation=Isoma", false}, {"space=high", true}, {"space=low|null", false},
		{"ship=Rifter", true}, {"attacker.ship=Rifter", false}, {"group=Frigate", true}, {"attacker.group=Frigate", false},
		{"final.group=Cruiser", true}, {"final.group!=Cruiser", false}, {"victim.group!=Cruiser", true},
		{"weapon=Drake", true}, {"weapon_type_id=24698", true}, {"item=Tritanium", true}, {"item=35", true}, {"item=36", false},
		{"label=solo", true}, {"label=solo|x", true}, {"labels=loc:highsec;labels=solo", true}, {"label=7", false}, {"label=deep", false}, {"label!=7", true},
		// The language's own.
		{"attackers=2", true}, {"attackers>2", false}, {"attackers!=3", true}, {"isk>=1.5b", true}, {"isk>1500000000.5", false},
		{"value>1500m", true}, {"totalValue<2b", true}, {"solo=yes;npc=0;awox!=1", true}, {"awox=0", false}, {"final_blow=1", true},
		// Together.
		{"system=Jita;isk>1b;label=solo", true}, {"system=Amarr,isk>1b", true}, {"system=Amarr,isk>2b", false},
		{"(system=Amarr,isk>1b);ship=Rifter", true}, {"!(system=Jita;npc=true)", true}, {"!(system=Jita,npc=true)", false},
	} {
		f, err := killfeed.ParseFilter(test.text, u)
		if err != nil {
			if test.text != "nothing=" {
				t.Errorf("%q: %v", test.text, err)
			}
			continue
		}
		if got := f.Match(&event); got != test.want {
			t.Errorf("%q matches: %v, want %v", test.text, got, test.want)
		}
	}
	// Killmails need not tell their system: the event does.
	f, err := killfeed.ParseFilter("system=Jita;region=The Forge", u)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Match(&killfeed.Event{SystemID: 30000142, Killmail: []byte(`{}`)}) || f.Match(&killfeed.Event{SystemID: 30002187, Killmail: []byte(`{}`)}) {
		t.Error("the system of an event is not that of the event")
	}
}

// The plan says where the index has to be looked at.
func TestFilterTopics(t *testing.T) {
	u := storetest.Universe()
	var thousand []string // more than a plan may have, less one
	for i := range 1000 {
		thousand = append(thousand, strconv.Itoa(1000+i))
	}
	characters := "character=" + strings.Join(thousand, "|")
	for _, test := range []struct{ text, want string }{
		{"alliance_id=1,2,3", "alliance:1 alliance:2 alliance:3"},
		{"victim.alliance=1", "loss:alliance:1"},
		{"kill.character=1", "kill:character:1"},
		{"final.ship=Rifter", "kill:ship:587"},
		{"system=Jita,region=Delve", "system:30000142 region:10000060"},
		{"space=pochven", "space:pochven"},
		{"victim.group=Titan|Frigate", "loss:group:25 loss:group:30"},
		{"label=solo", "label:solo"},
		{"label=solo;system=Jita", "system:30000142"},
		{"region=Delve;alliance=1;space=null;isk>1b", "alliance:1"},
		{"region=Delve;space=null;npc=0", "region:10000060"},
		{"group=Titan;constellation=Kimotoro", "constellation:20000020"},
		{"(region=Delve;isk>1b),(region=Delve;npc=1),character=5", "character:5 region:10000060"},
		{"!(alliance!=1,isk>1b)", "alliance:1"},
		{"!(alliance!=1;system!=Jita)", "system:30000142 alliance:1"},
		{characters + ";space=null", "character:" + strings.Join(thousand, " character:")},
		{characters + "|1;space=null", "space:null"},
		{"isk>1b", ""},
		{"alliance!=1", ""},
		{"alliance>0", ""},
		{"isk>1b,alliance=1", ""},
		{"!(alliance=1)", ""},
		{"!(alliance!=1;isk>1b)", ""},
		{"label=" + strings.Repeat("x", killfeed.MaxLabel+1), ""},
		{"label=a|\"b\tc\"", ""},
		{characters + "|1", ""},
		{characters + ",alliance=1", ""},
		{"weapon=1;attackers=1", ""},
	} {
		f, err := killfeed.ParseFilter(test.text, u)
		if err != nil {
			t.Errorf("%.80q: %v", test.text, err)
			continue
		}
		var names []string
		plan, ok := f.Topics()
		for _, topic := range plan {
			names = append(names, topic.String())
		}
		if got := strings.Join(names, " "); got != test.want || ok != (test.want != "") {
			t.Errorf("%.80q: plan %.80q, %v, want %.80q", test.text, got, ok, test.want)
		}
	}
}

// Reading a killmail and asking many filters of it leaves nothing for the garbage collector.
func TestFilterAllocatesNothing(t *testing.T) {
	k, err := killfeed.NewKillmail(30000142, []byte(filterMail))
	if err != nil {
		t.Fatal(err)
	}
	event := killfeed.Event{ID: 1, SystemID: k.SystemID, Killmail: k.JSON}
	var filters []*killfeed.Filter
	for _, text := range []string{
		"isk>1b;alliance=1|2", "label=x|y,attackers>5", "escaped=b", "text>13", "victim.ship>600", "x=-250.5", "big=1.5", "killmail_time<2026",
	} {
		f, err := killfeed.ParseFilter(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		filters = append(filters, f)
	}
	var l killfeed.Leaves
	l.Read(&event) // makes room
	if n := testing.AllocsPerRun(100, func() {
		l.Read(&event)
		for _, f := range filters {
			f.MatchLeaves(&l)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
