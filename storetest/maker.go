package storetest

import (
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"killfeed"
)

// MakerOptions configure a Maker. The zero value makes killmails that are as large, as crowded and as spread over solar
// systems as a week of real ones.
type MakerOptions struct {
	// Seed decides everything: the same options give the same killmails.
	Seed uint64
	// FirstID is the first killmail id; 0 means 90,000,001. Ids rise by 1.
	FirstID int64
	// Systems is how many solar systems there are; 0 means 5,000. The n-th busiest gets a share proportional to 1/n.
	Systems int
	// Attackers is how many attackers each has; 0 draws it: median 2, one of a hundred above 60, at most 600.
	Attackers int
	// Bytes is about how large each is, as far as items can fill it; 0 draws the number of items: median of all 1.8 kB.
	Bytes int
	// Bare leaves zkb out but for the hash, as in archives of ESI killmails.
	Bare bool
	// Start is the time of the first killmail, zero means 2021-11-27 19:00 UTC; each next one is Every later, 0 meaning 3 s.
	Start time.Time
	Every time.Duration
}

// TypicalBytes is the size that benchmarks use: an average killmail with zkb.
const TypicalBytes = 2500

// Maker makes up killmails without end, about 100,000 a second. It is not for concurrent use.
type Maker struct {
	o      MakerOptions
	rnd    *rand.Rand
	shares []float64 // cumulative, of the systems by rank
	n      int64     // killmails made
}

// NewMaker makes a Maker.
func NewMaker(o MakerOptions) *Maker {
	if o.FirstID == 0 {
		o.FirstID = 90_000_001
	}
	if o.Systems == 0 {
		o.Systems = 5000
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2021, 11, 27, 19, 0, 0, 0, time.UTC)
	}
	if o.Every == 0 {
		o.Every = 3 * time.Second
	}
	m := &Maker{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 0x6b696c6c66656564)), shares: make([]float64, o.Systems)}
	sum := 0.0
	for i := range m.shares {
		sum += 1 / float64(i+1)
		m.shares[i] = sum
	}
	return m
}

// System is the solar system at a rank: 0 is the busiest, Systems-1 the quietest.
func (m *Maker) System(rank int) uint32 {
	// 7919 is a prime, so this walks over all of them: neighbours in rank are no neighbours in number.
	return 30_000_001 + uint32(rank*7919%m.o.Systems)
}

// Next makes the next killmail.
func (m *Maker) Next() *killfeed.Killmail {
	mail := m.NextMail()
	return mail.Killmail()
}

// NextMail makes the next killmail's description.
func (m *Maker) NextMail() Mail {
	r := m.rnd
	rank := sort.SearchFloat64s(m.shares, r.Float64()*m.shares[len(m.shares)-1])
	mail := Mail{
		ID: m.o.FirstID + m.n, System: m.System(min(rank, m.o.Systems-1)), Seed: r.Uint64(),
		Time: m.o.Start.Add(time.Duration(m.n) * m.o.Every).Truncate(time.Second),
	}
	m.n++
	attackers := m.o.Attackers
	if attackers == 0 {
		attackers = min(int(math.Exp(0.6+r.NormFloat64()*1.45))+1, 600)
	}
	mail.Victim = m.party(r.Uint32N(1 << 20))
	mail.Attackers = make([]Party, attackers)
	gang := r.Uint32N(1 << 10) // attackers mostly fly together
	for i := range mail.Attackers {
		p := m.party(gang<<10 | r.Uint32N(1<<6))
		p.Damage = 1 + r.Uint32N(4000)
		mail.Attackers[i] = p
		mail.Victim.Damage += p.Damage
	}
	mail.Attackers[r.IntN(attackers)].FinalBlow = true
	if r.IntN(8) == 0 {
		mail.WarID = 600_000 + r.Uint32N(150_000)
	}
	if !m.o.Bare {
		mail.ZKB, mail.Labels = true, labels(attackers, mail.Seed)
	}
	if m.o.Bytes == 0 {
		mail.Items = min(int(math.Exp(1.8+r.NormFloat64()*1.1)), 300)
		return mail
	}
	const plain, perAttacker, perItem = 628, 174, 70 // bytes, measured
	empty := plain + perAttacker*attackers
	if m.o.Bare {
		empty -= 253
	}
	mail.Items = max(0, (m.o.Bytes-empty)/perItem)
	return mail
}

// party draws who a pilot is from a number: the same number always has the same corporation and alliance.
func (m *Maker) party(n uint32) Party {
	p := Party{
		Character: 90_000_000 + n, Corporation: 98_000_000 + n>>4, Alliance: 99_000_000 + n>>8,
		Ship: 582 + m.rnd.Uint32N(400),
	}
	switch n % 50 {
	case 0: // NPC
		p.Character, p.Alliance, p.Faction = 0, 0, 500_001+n%20
	case 1, 2, 3, 4, 5: // without an alliance
		p.Alliance = 0
	}
	return p
}

func labels(attackers int, seed uint64) []string {
	l := make([]string, 0, 5)
	l = append(l, []string{"tz:eu", "tz:usw", "tz:use", "tz:au", "tz:ru"}[seed%5], "cat:6")
	switch {
	case attackers == 1:
		l = append(l, "solo")
	case attackers >= 10:
		l = append(l, "#:10+")
	case attackers >= 5:
		l = append(l, "#:5+")
	default:
		l = append(l, "#:2+")
	}
	return append(l, "pvp", []string{"loc:highsec", "loc:lowsec", "loc:nullsec", "loc:w-space"}[seed/5%4])
}
