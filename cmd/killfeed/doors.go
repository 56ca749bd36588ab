package main

import (
	"net/netip"

	"killfeed/web/doors"
)

// doors makes what tells callers apart by their addresses.
func (a *app) doors() (*doors.Doors, error) {
	s := &a.settings
	for name, n := range map[string]int{"address-rate": s.addressRate, "address-connections": s.addressConns} {
		if n < 0 || n > 1_000_000 {
			return nil, usagef("%s %d is not accepted: want a number from 0 (no limit) to 1000000", name, n)
		}
	}
	o := doors.Options{Rate: s.addressRate}
	for _, text := range s.trustedProxies {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				return nil, usagef("trusted-proxies: %q is no address or network: want 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32", text)
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		if network.Bits() == 0 {
			return nil, usagef("trusted-proxies: %q is everybody, so everybody could say to be anybody: want the proxies' own networks", text)
		}
		if network != network.Masked() {
			return nil, usagef("trusted-proxies: %q has bits behind its length: want %s", text, network.Masked())
		}
		o.Trusted = append(o.Trusted, network)
	}
	return doors.New(o), nil
}
