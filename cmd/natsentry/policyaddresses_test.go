package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPolicyAddresses(t *testing.T) {
	p, err := parsePolicy([]byte(`addresses:
  edge-9: [nats://10.0.1.2:4222, "ws://10.0.1.2:8080/", 10.0.1.2:4222]
  "edge 8":
    - tls://[2001:db8::1]:4222
    - edge-8.example.net:7422
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"edge-9": {"10.0.1.2:4222", "10.0.1.2:8080"},
		"edge 8": {"[2001:db8::1]:4222", "edge-8.example.net:7422"},
	}
	if diff := cmp.Diff(want, p.Addresses); diff != "" {
		t.Error(diff)
	}
	var many strings.Builder
	many.WriteString("addresses:\n")
	for i := range mostNames {
		fmt.Fprintf(&many, "  edge-%d: [10.0.1.2:%d]\n", i, i+1)
	}
	if p, err := parsePolicy([]byte(many.String())); err != nil || len(p.Addresses) != mostNames {
		t.Errorf("%d servers: %d, %v", mostNames, len(p.Addresses), err)
	}
	for text, says := range map[string]string{
		many.String() + "  one-more: [10.0.1.2:1]\n":                                   "too many keys",
		many.String() + "waivers:\n- {" + strings.Repeat("a: 1, ", mostKeys+1) + "}\n": "too many keys",
		"addresses: [10.0.1.2:4222]":                                                   "addresses is no mapping",
		"addresses: {a: 10.0.1.2:4222}":                                                `"a" has no addresses`,
		"addresses: {a: []}":                                                           `"a" has no addresses`,
		"addresses: {a: [10.0.1.2]}":                                                   "is not a valid HOST:PORT",
		"addresses: {a: [nats://10.0.1.2]}":                                            "is not a valid HOST:PORT",
		"addresses: {a: [nats://10.0.1.2:0]}":                                          "has no valid port",
		"addresses: {a: [nats://10.0.1.2:99999]}":                                      "has no valid port",
		"addresses: {a: [ftp://10.0.1.2:21]}":                                          "has an unknown scheme",
		"addresses: {a: [nats://10.0.1.2:4222/x]}":                                     "is not a valid HOST:PORT",
		"addresses: {a: [nats://u:secret-word@10.0.1.2:4222]}":                         "has credentials",
		"addresses: {a: [u:secret-word@10.0.1.2:4222]}":                                "has credentials",
		"addresses: {a: [" + strings.Repeat("h:1, ", 17) + "]}":                        "has too many addresses",
	} {
		_, err := parsePolicy([]byte(text))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%.60q: %v, want %q", text, err, says)
		}
	}
}
