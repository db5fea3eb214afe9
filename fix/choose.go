package fix

import (
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// Cure is what closes a finding.
type Cure struct {
	Modes        []Mode
	NoConfig     bool // see Plan
	KeepAccounts bool
}

// For is what closes what a check found, for this cause. There are no modes
// where no configuration that could be included does.
func For(check string, cause posture.Cause) Cure {
	switch check {
	case "DOOR_001", "SESS_001":
		return forClients(cause)
	case "DOOR_002":
		if cause == posture.CauseWSNoAuthUser {
			return Cure{Modes: []Mode{Websocket}}
		}
		return forClients(cause)
	case "DOOR_003":
		if cause == posture.CauseMQTTNoAuthUser {
			return Cure{Modes: []Mode{MQTT}}
		}
		return forClients(cause)
	case "DOOR_004":
		cure := forClients(cause)
		cure.Modes = append(cure.Modes, Leafnode)
		return cure
	case "DOOR_005":
		return Cure{Modes: []Mode{Route}}
	case "DOOR_006":
		return Cure{Modes: []Mode{Gateway}}
	case "TLS_003":
		return Cure{Modes: []Mode{TLSMap}}
	default:
		return Cure{}
	}
}

// forClients closes a client port, and those that take its authentication.
func forClients(cause posture.Cause) Cure {
	switch cause {
	case posture.CauseNoConfig:
		return Cure{Modes: []Mode{Users}, NoConfig: true}
	case posture.CauseNoAuthBlock, posture.CauseInherits:
		return Cure{Modes: []Mode{Users}}
	case posture.CauseHiddenUser:
		return Cure{Modes: []Mode{Users}, KeepAccounts: true}
	case posture.CauseNoAuthUser:
		return Cure{Modes: []Mode{NoAuthUser}}
	case posture.CauseAllowNonTLS, posture.CauseCertificateOnly:
		return Cure{Modes: []Mode{TLSMap}}
	default:
		return Cure{}
	}
}

// Join puts cures together. There can be one mode about the client port: one
// that somebody asked for, or else that of the first cure that has one.
func Join(asked []Mode, cures ...Cure) Cure {
	var out Cure
	chosen := slices.ContainsFunc(asked, ofAuthFile)
	add := func(m Mode) {
		if !slices.Contains(out.Modes, m) {
			out.Modes = append(out.Modes, m)
		}
	}
	for _, c := range cures {
		out.NoConfig = out.NoConfig || c.NoConfig
		out.KeepAccounts = out.KeepAccounts || c.KeepAccounts
		for _, m := range c.Modes {
			if !ofAuthFile(m) || !chosen {
				add(m)
			}
			chosen = chosen || ofAuthFile(m)
		}
	}
	for _, m := range asked {
		add(m)
	}
	if slices.Contains(out.Modes, Operator) {
		// Leafnodes bring credentials files there, as clients do.
		out.Modes = slices.DeleteFunc(out.Modes, func(m Mode) bool { return m == Leafnode && !slices.Contains(asked, Leafnode) })
	}
	return out
}

// ofAuthFile tells whether a mode is about the client port: there can be one
// such only.
func ofAuthFile(m Mode) bool {
	k := kindOf(m)
	return k != nil && k.file == authFile
}

// OfClients tells whether a mode says how clients prove who they are.
func OfClients(m Mode) bool {
	k := kindOf(m)
	return k != nil && k.client
}

// NeedsOriginal reports whether a mode leaves users as they are, so that it must
// be known which of them have no password.
func NeedsOriginal(m Mode) bool { return m == NoAuthUser || m == Websocket || m == MQTT }
