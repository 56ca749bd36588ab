package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"killfeed"
	"killfeed/names"
)

// Limits of Discord's, in UTF-16 code units, which are as many as its own characters or more.
const (
	maxTitle  = 256
	maxAuthor = 256
	maxField  = 1024
	maxTotal  = 6000 // texts of all embeds of a message together
)

// Colours of embeds.
const (
	colourKill  = 0x3ba55d // green
	colourLoss  = 0xed4245 // red
	colourOther = 0x5d6f81 // neither: the topics do not say whose side the reader is on
)

// message is what Discord's webhooks take.
type message struct {
	Content string  `json:"content,omitempty"`
	Embeds  []embed `json:"embeds,omitempty"`
	// Mentions: nobody is ever pinged, whatever pilots call themselves.
	Mentions struct {
		Parse []string `json:"parse"`
	} `json:"allowed_mentions"`
}

type embed struct {
	Title     string  `json:"title"`
	URL       string  `json:"url,omitempty"`
	Colour    int     `json:"color"`
	Timestamp string  `json:"timestamp,omitempty"`
	Author    *author `json:"author,omitempty"`
	Thumbnail *image  `json:"thumbnail,omitempty"`
	Fields    []field `json:"fields,omitempty"`
	Footer    *footer `json:"footer,omitempty"`
}

type author struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"`
	Icon string `json:"icon_url,omitempty"`
}

type image struct {
	URL string `json:"url"`
}

type field struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Inline bool   `json:"inline,omitempty"`
}

type footer struct {
	Text string `json:"text"`
}

// encodeMessage writes a message.
func encodeMessage(m *message) ([]byte, error) {
	m.Mentions.Parse = []string{} // null would be Discord's default: everybody
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	if err := to.Encode(m); err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	return b.Bytes(), nil
}

// embeds makes a message of the first events, as many as fit into one and at least one.
func embeds(l lexicon, topics []killfeed.Topic, events []killfeed.Event) (m message, n int) {
	total := 0
	for i := range events {
		e := newEmbed(l, topics, &events[i])
		if total += e.size(); n > 0 && total > maxTotal || n == maxEmbeds {
			break
		}
		m.Embeds = append(m.Embeds, e)
		n++
	}
	return m, n
}

// size is what counts against maxTotal.
func (e *embed) size() int {
	n := units(e.Title)
	for _, f := range e.Fields {
		n += units(f.Name) + units(f.Value)
	}
	if e.Author != nil {
		n += units(e.Author.Name)
	}
	if e.Footer != nil {
		n += units(e.Footer.Text)
	}
	return n
}

// newEmbed shows a killmail.
func newEmbed(l lexicon, topics []killfeed.Topic, event *killfeed.Event) embed {
	k := readKillmail(event.Killmail)
	by := k.finalBlow()
	system := l.call(names.System, id(event.SystemID))
	region, security, placed := l.place(event.SystemID)
	e := embed{Title: title(l, &k, system, region), Colour: colour(&k, topics, l.universe)}
	if event.KillmailID > 0 {
		e.URL = fmt.Sprintf("https://zkillboard.com/kill/%d/", event.KillmailID)
		e.Footer = &footer{fmt.Sprintf("killmail %d", event.KillmailID)}
	}
	if !event.KilledAt.IsZero() {
		e.Timestamp = event.KilledAt.UTC().Format(time.RFC3339)
	}
	if k.Victim.Ship != 0 {
		e.Thumbnail = &image{fmt.Sprintf("https://images.evetech.net/types/%d/render?size=128", k.Victim.Ship)}
	}
	if by != nil {
		e.Author = newAuthor(l, by)
		e.Fields = append(e.Fields, field{Name: "Final blow", Value: finalBlow(l, by), Inline: true})
	}
	if v := k.ZKB.Value; v > 0 && !math.IsInf(v, 0) {
		e.Fields = append(e.Fields, field{Name: "Value", Value: isk(v) + " ISK", Inline: true})
	}
	where := link(escape(clip(system, 100)), "system", id(event.SystemID))
	if placed {
		where += " " + strconv.FormatFloat(security, 'f', 1, 64)
	}
	e.Fields = append(e.Fields, field{Name: "System", Value: where, Inline: true})
	if n := len(k.Attackers); n > 0 {
		count := strconv.Itoa(n)
		switch {
		case k.ZKB.NPC:
			count += " (NPC)"
		case k.ZKB.Solo:
			count += " (solo)"
		}
		e.Fields = append(e.Fields, field{Name: "Attackers", Value: count, Inline: true})
	}
	return e
}

// title is "<victim> lost a <ship> in <system> (<region>)".
func title(l lexicon, k *killmail, system, region string) string {
	victim, ship := l.whoIs(&k.Victim), l.call(names.Type, k.Victim.Ship)
	if victim == "" {
		victim = "Somebody"
	}
	if ship == "" {
		ship = "ship"
	}
	return fitting(maxTitle, func(most int) string {
		text := escape(clip(victim, most)) + " lost " + article(ship) + " " + escape(clip(ship, most)) + " in " + escape(clip(system, most))
		if region != "" {
			text += " (" + escape(clip(region, most)) + ")"
		}
		return text
	})
}

// article is "an" before a vowel.
func article(noun string) string {
	if strings.ContainsAny(noun[:1], "AEIOUaeiou") {
		return "an"
	}
	return "a"
}

// whoIs is the most exact name of a party: a structure has no pilot, and an NPC perhaps no corporation.
func (l lexicon) whoIs(p *party) string {
	for _, of := range []struct {
		category names.Category
		id       id
	}{{names.Character, p.Character}, {names.Corporation, p.Corporation}, {names.Alliance, p.Alliance}, {names.Faction, p.Faction}} {
		if of.id != 0 {
			return l.call(of.category, of.id)
		}
	}
	return ""
}

// newAuthor is the killer's alliance, or else corporation or faction; nil when there is none.
func newAuthor(l lexicon, by *party) *author {
	for _, of := range []struct {
		category names.Category
		id       id
		plural   string
		logo     string
	}{
		{names.Alliance, by.Alliance, "alliance", "alliances"},
		{names.Corporation, by.Corporation, "corporation", "corporations"},
		{names.Faction, by.Faction, "faction", "corporations"}, // the image server has factions among the corporations
	} {
		if of.id == 0 {
			continue
		}
		return &author{ // no markdown here
			Name: fitting(maxAuthor, func(most int) string { return clip(l.call(of.category, of.id), most) }),
			URL:  fmt.Sprintf("https://zkillboard.com/%s/%d/", of.plural, of.id),
			Icon: fmt.Sprintf("https://images.evetech.net/%s/%d/logo?size=64", of.logo, of.id),
		}
	}
	return nil
}

// finalBlow says who did it, of whom, in what.
func finalBlow(l lexicon, by *party) string {
	text := fitting(maxField, func(most int) string {
		name := func(of names.Category, n id) string { return escape(clip(l.call(of, n), most)) }
		var parts []string
		switch {
		case by.Character != 0:
			parts = append(parts, link(name(names.Character, by.Character), "character", by.Character))
			if by.Corporation != 0 {
				parts = append(parts, "("+link(name(names.Corporation, by.Corporation), "corporation", by.Corporation)+")")
			}
		case by.Corporation != 0:
			parts = append(parts, link(name(names.Corporation, by.Corporation), "corporation", by.Corporation))
		case by.Faction != 0:
			parts = append(parts, name(names.Faction, by.Faction))
		}
		if by.Ship != 0 {
			if len(parts) > 0 {
				parts = append(parts, "in")
			}
			parts = append(parts, article(l.call(names.Type, by.Ship)), name(names.Type, by.Ship))
		}
		return strings.Join(parts, " ")
	})
	if text == "" {
		return "unknown" // Discord refuses empty fields
	}
	return text
}

// colour says whose side the reader is on, by the topics that say it.
func colour(k *killmail, topics []killfeed.Topic, u *killfeed.Universe) int {
	killed := false
	for _, t := range topics {
		var victim, attacker bool
		switch kind := t.Kind.Base(); {
		case t.Kind.Role() == killfeed.RoleLoss:
			victim = true
		case t.Kind.Role() == killfeed.RoleKill:
			attacker = true
		case kind >= killfeed.KindCharacter && kind <= killfeed.KindFaction: // people; of ships nobody is the side
			victim, attacker = true, true
		}
		if victim && k.Victim.has(t, u) {
			return colourLoss
		}
		for i := range k.Attackers {
			killed = killed || attacker && k.Attackers[i].has(t, u)
		}
	}
	if killed {
		return colourKill
	}
	return colourOther
}

// isk writes a value as people do: 1.23b.
func isk(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, "t"}, {1e9, "b"}, {1e6, "m"}, {1e3, "k"}} {
		if v >= unit.size*0.999995 { // what is above would be written 1000.00 of the smaller one
			if n := v / unit.size; n < 1e6 {
				return strconv.FormatFloat(n, 'f', 2, 64) + unit.name
			}
			return strconv.FormatFloat(v, 'e', 2, 64)
		}
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// link is a link of markdown to zKillboard's page of something; text is escaped.
func link(text, kind string, n id) string {
	return fmt.Sprintf("[%s](https://zkillboard.com/%s/%d/)", text, kind, n)
}

// markdown are the characters that mean something in Discord's markdown, in mentions and in what it makes links of, wherever they
// are. A backslash takes the meaning from each.
const markdown = "\\*_~`|>#[]<:@"

// escape has a text shown as it is.
func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		if strings.ContainsRune(markdown, r) || i == 0 && (r == '-' || r == '+') { // in front these two make a list
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// clip shortens a text to most letters.
func clip(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			return strings.TrimRight(b.String(), " ") + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}

// fitting is what render makes of names that are shortened as much as it needs to fit.
func fitting(limit int, render func(most int) string) string {
	for most := 100; ; most /= 2 {
		if text := render(most); units(text) <= limit || most == 0 {
			return text
		}
	}
}

// units is the length of a text in UTF-16.
func units(text string) (n int) {
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}
