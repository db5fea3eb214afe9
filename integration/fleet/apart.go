package fleet

import (
	"context"

	"github.com/nats-io/nats-server/v2/server"
)

// Apart gives servers processes of their own under the race detector, and leaves
// them as they are without it. Embedded, their own races would be found: CONNZ reads
// what a client that is just coming writes (nats-server 2.15.2).
func Apart(ctx context.Context, specs ...Spec) ([]Spec, error) {
	if !UnderRace {
		return specs, nil
	}
	binary, err := Binary(ctx, "v"+server.VERSION)
	if err != nil {
		return nil, err
	}
	out := make([]Spec, len(specs))
	for i, spec := range specs {
		if spec.Binary == "" && spec.Options == nil {
			spec.Binary = binary
		}
		out[i] = spec
	}
	return out, nil
}
