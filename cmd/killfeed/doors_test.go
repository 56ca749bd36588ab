package main

import (
	"strings"
	"testing"
)

// TestDoorSettings: what would trust everybody, or means something else than it seems to, is refused.
func TestDoorSettings(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"--trusted-proxies", "proxy.example", `"proxy.example" is no address or network`},
		{"--trusted-proxies", "10.0.0.1,10.0.0.0/33", `"10.0.0.0/33" is no address or network`},
		{"--trusted-proxies", "fe80::1%eth0", "is no address or network"},
		{"--trusted-proxies", "0.0.0.0/0", "is everybody"},
		{"--trusted-proxies", "::/0", "is everybody"},
		{"--trusted-proxies", "10.0.0.1/8", "want 10.0.0.0/8"},
		{"--address-rate", "-1", "want a number from 0"},
		{"--address-connections", "-1", "want a number from 0"},
	} {
		var out, errs strings.Builder
		code := run(t.Context(), []string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", c.flag, c.value}, nil,
			strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s %s: %d, %s; want %d, %s", c.flag, c.value, code, errs.String(), exitUsage, c.want)
		}
	}
	a := &app{}
	a.settings.trustedProxies = listValue{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"}
	if _, err := a.doors(); err != nil {
		t.Error(err)
	}
}
