package collect

import (
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// endpoint is one typed request.
type endpoint struct {
	input    posture.Input
	name     string // as nats-server calls it, unless it has several uses; a token of the reply subject
	ping     string // asks all servers at once
	direct   string // asks one server; %s is its id. "" where the server has none
	payload  string
	compress bool // ask for a compressed answer: pays only where answers are large
	decode   func(data []byte, encoding string) (identity, any, error)
}

// Requests lists every subject the collector publishes to, with * for the id of
// a server or of an account. A least-privilege user needs no other.
func Requests() []string {
	var out []string
	for i := range endpoints {
		e := &endpoints[i]
		subject := e.ping
		if e.direct != "" {
			subject = strings.ReplaceAll(e.direct, "%s", "*") // covers the ping as well
		}
		if !slices.Contains(out, subject) {
			out = append(out, subject)
		}
	}
	return append(out, strings.ReplaceAll(lookupRequest, "%s", "*"), listRequest)
}

var endpoints = []endpoint{
	serverEndpoint[statsz](posture.Statsz, "STATSZ"),
	serverEndpoint[varz](posture.Varz, "VARZ"),
	serverEndpoint[routez](posture.Routez, "ROUTEZ"),
	serverEndpoint[gatewayz](posture.Gatewayz, "GATEWAYZ"),
	serverEndpoint[leafz](posture.Leafz, "LEAFZ"),
	serverEndpoint[accountz](posture.Accountz, "ACCOUNTZ"),
	{
		input: posture.AccountStatz, name: "STATZ", ping: "$SYS.REQ.ACCOUNT.PING.STATZ",
		// include_unused makes a server without the account answer too:
		// silence would look like a gap.
		payload: `{"accounts":["` + posture.GlobalAccount + `"],"include_unused":true}`,
		decode:  decoder[accountStatz],
	},
	connzEndpoint(posture.Connz, "CONNZ"),
	connzEndpoint(posture.EveryoneConnz, "EVERYONE"),
}

func serverEndpoint[T any](input posture.Input, name string) endpoint {
	return endpoint{
		input: input, name: name, decode: decoder[T],
		ping:   "$SYS.REQ.SERVER.PING." + name,
		direct: "$SYS.REQ.SERVER.%s." + name,
	}
}

// connzEndpoint takes the answers of each use of CONNZ apart from the others: a
// large one must not hold up the small ones.
func connzEndpoint(input posture.Input, name string) endpoint {
	e := serverEndpoint[connz](input, "CONNZ")
	e.name, e.compress = name, true
	return e
}

func decoder[T any](data []byte, encoding string) (identity, any, error) {
	who, body, err := decode[T](data, encoding)
	if body == nil {
		return who, nil, err
	}
	return who, body, err
}

func endpointOf(input posture.Input) *endpoint {
	for i := range endpoints {
		if endpoints[i].input == input {
			return &endpoints[i]
		}
	}
	return nil
}
