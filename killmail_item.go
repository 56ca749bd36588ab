package killfeed

import (
	"errors"
	"strconv"
)

// ErrNeedsESI: an item names a killmail by its id and hash, and has no body.
var ErrNeedsESI = errors.New("a killmail's body must be fetched from ESI, which this server does not do: " +
	"send the whole killmail")

// nameOnlyError is an InvalidError that is ErrNeedsESI too.
type nameOnlyError struct{ invalid *InvalidError }

func (e *nameOnlyError) Error() string   { return e.invalid.Error() }
func (e *nameOnlyError) Unwrap() []error { return []error{e.invalid, ErrNeedsESI} }

// item tells the shape of what was read into top, and makes a killmail of it.
func (p *parser) item() (*Killmail, error) {
	o := &p.top
	if !p.absent(o.solarSystemID) {
		return p.killmail(o, nil, 0)
	}
	switch o.wraps {
	case wrapPackage:
		if p.absent(o.inner) {
			return nil, invalid("package", "null", "a package with a killmail: null says that there was none")
		}
		if !p.isObject(o.inner) {
			return nil, invalid("package", p.show(o.inner), "an object")
		}
		if o = &p.pack; o.wraps == wrapKillmail || o.wraps == wrapESI {
			return p.enveloped(o)
		}
	case wrapESI:
		return p.enveloped(o)
	case wrapKillmail:
		zkillboard := !o.killID.none() || !o.killmailID.none() || !o.hash.none() || !o.killmailHash.none() || !o.zkb.at.none()
		if zkillboard && o.systemID.none() {
			return p.enveloped(o)
		}
		return p.event(o)
	}
	if o.wraps != 0 {
		return nil, invalid("killmail", p.show(o.at), "one killmail: in one of the members killmail, esi and package")
	}
	if o.time.none() { // or it is a killmail without a system
		if err := p.nameOnly(o); err != nil {
			return nil, err
		}
	}
	if o == &p.pack {
		return nil, invalid("package", p.show(o.at), "an object with the member killmail")
	}
	return nil, invalid("solar_system_id", "",
		wantSystem+`; what is no killmail of the game is sent as {"system_id":…,"killmail":{…}}`)
}

// event makes a killmail of {"system_id":…,"killmail":{…}}.
func (p *parser) event(o *object) (*Killmail, error) {
	system, err := p.integer(o.systemID, "system_id", MaxID, wantSystem)
	if err != nil {
		return nil, err
	}
	if system == 0 {
		return nil, invalid("system_id", p.show(o.systemID), wantSystem)
	}
	if !p.isObject(o.inner) {
		return nil, invalid("killmail", p.show(o.inner), "a JSON object")
	}
	return p.killmail(&p.body, nil, uint32(system))
}

// enveloped makes a killmail of an envelope with id, hash and zkb beside the body: R2Z2 and RedisQ.
func (p *parser) enveloped(o *object) (*Killmail, error) {
	if p.isObject(o.inner) {
		return p.killmail(&p.body, o, 0)
	}
	if p.absent(o.inner) {
		if err := p.nameOnly(o); err != nil {
			return nil, err
		}
	}
	return nil, invalid(wrapperNames[o.wraps], p.show(o.inner), "a JSON object")
}

// nameOnly returns ErrNeedsESI when o has what names a killmail, nil when it does not.
func (p *parser) nameOnly(o *object) error {
	id, err := p.envelopeID(o)
	if err != nil {
		return err
	}
	var h hash
	if err := p.hash(&h, o.hash, o.killmailHash, o.zkb.hash); err != nil {
		return err
	}
	if id == 0 || h == (hash{}) {
		return nil
	}
	return &nameOnlyError{invalid("killmail", "id "+strconv.FormatInt(id, 10)+" with a hash only",
		"the whole killmail: its body must be fetched from ESI, which this server does not do")}
}

// envelopeID is the id that an envelope gives, 0 when it gives none.
func (p *parser) envelopeID(o *object) (int64, error) {
	id, err := p.integer(o.killmailID, "killmail_id", 1<<63-1, wantKillmailID)
	if err != nil {
		return 0, err
	}
	killID, err := p.integer(o.killID, "killID", 1<<63-1, wantKillmailID)
	if err == nil && id != 0 && killID != 0 && id != killID {
		err = invalid("killID", p.show(o.killID), "the same as killmail_id, "+p.show(o.killmailID))
	}
	return max(id, killID), err
}
