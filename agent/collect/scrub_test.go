package collect

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/natsentry/natsentry/agent/posture"
)

func TestScrubUser(t *testing.T) {
	for _, c := range []struct{ user, version, want string }{
		{"", "2.15.2", ""},
		{"alice", "2.15.2", "alice"},
		{"alice", "2.10.28", "alice"},
		{"s3cr3t-token", "2.10.27", posture.Redacted}, // a raw token, for all one can tell
		{"s3cr3t-token", "2.9.25", posture.Redacted},
		{"s3cr3t-token", "no version", posture.Redacted},
		{"nats-Ab12Cd34", "2.9.25", "nats-Ab12Cd34"},
		{"eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJ", "2.15.2", posture.Redacted},
		{"al\x1b[31mice\n", "2.15.2", "al[31mice"},
	} {
		if got := scrubUser(&connInfo{AuthorizedUser: c.user}, c.version); got != c.want {
			t.Errorf("scrubUser(%q, %s) = %q, want %q", c.user, c.version, got, c.want)
		}
	}
}

// TestDecodingErrorKeepsValuesOut: a value that does not parse may be a
// secret, and errors end up in gaps, which are published.
func TestDecodingErrorKeepsValuesOut(t *testing.T) {
	for _, data := range []string{
		`{"server":{"id":"N1"},"data":{"start":"s3cr3t-token"}}`,
		`{"server":{"id":"N1"},"data":{"port":"s3cr3t-token"}}`,
		`{"server":{"id":"N1"},"data":{"auth_required":s3cr3t-token}}`,
	} {
		_, _, err := decode[varz]([]byte(data), "")
		if err == nil {
			t.Errorf("%s was accepted", data)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("the error tells the value: %v", err)
		}
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	var packed bytes.Buffer
	w := s2.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range maxDecoded/len(zeros) + 2 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > maxWire {
		t.Fatalf("the bomb itself is too large to try: %d bytes", packed.Len())
	}
	if _, _, err := decode[varz](packed.Bytes(), "snappy"); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v, want %v", err, errTooLarge)
	}
}
