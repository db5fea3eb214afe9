package proof

import (
	"cmp"
	"slices"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
)

// inheriting are the doors at which an auth callout decides, of which nobody can
// tell by reading.
var inheriting = []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode}

// lint reads the new configuration as `natsentry lint` does, which is how the
// user will have it checked from now on.
func (p *prover) lint(s standIn) error {
	f, err := conffile.Read(conffile.OnDisk(p.fleet.Server(s.name).ConfigFile()))
	if err != nil {
		return err
	}
	for _, kind := range s.doors {
		d := f.Server.Door(kind)
		r := Row{Door: kind, Who: "a stranger, as natsentry lint reads it", Want: posture.Closed, Access: d.Access, How: d.Reason}
		if p.b.Service != nil && slices.Contains(inheriting, kind) {
			r.Want = posture.Unknown
		}
		for _, e := range d.Evidence {
			r.How = cmp.Or(r.How, e.Value)
		}
		for _, refused := range f.Server.Config.Refused {
			r.How = "nats-server would not start: " + refused.Text
		}
		p.out.Rows = append(p.out.Rows, r)
	}
	return nil
}
