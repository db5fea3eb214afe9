package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// The causes of CONF_006: how the file would come to run.
const (
	causeNoFile  posture.Cause = "started-without-file"
	causeRestart posture.Cause = "reload-refused"
	causeReload  posture.Cause = "not-reloaded"
)

var conf006 = &Check{
	Sight: Lint,
	ID:    "CONF_006", Severity: Critical,
	Title: "the file is not what runs",
	Doc: "What config_digest in VARZ tells of the configuration that a server runs with is not what the file gives: the server was not reloaded since the file was changed, it refused to, or it was started with another one. " +
		"Until its next restart all is as it was, and that restart may open or close doors when nobody thinks of them. Judged where `lint --running` names a server; servers before 2.11 do not show it, and a file that depends on variables without a value cannot be compared.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		r := s.Config.Running
		switch {
		case r == nil:
			return Verdict{Outcome: NotApplicable, Summary: "no running server was named"}
		case !r.Heard.Has(posture.Varz):
			return unknown("no answer to VARZ from %s", r.Name)
		case !release.ShowsConfigDigest.Holds(r.Version):
			return unknown("%s does not show what it runs with: its version is %s", r.Name, r.Version)
		case len(s.Config.Unset) > 0:
			return unknown("it depends on %s without a value here", several(len(s.Config.Unset), "variable", "variables"))
		case s.Config.Marks == nil:
			return unknown("it cannot be read")
		case slices.Contains(s.Config.Marks, r.ConfigMark):
			return pass("%s runs with it, as loaded at %s", r.Name, r.ConfigLoaded.UTC().Format(time.RFC3339)).
				with(NoSeverity, reported("VARZ of "+r.Name, "config_digest is that of the file"))
		}
		return drift(s, r)
	},
	Remedy: Remedy{Text: "Find out which of the two is meant to be."},
	Remedies: map[posture.Cause]Remedy{
		causeNoFile:  {Text: "Restart the server with -c and this file. A reload does nothing for a server that was started without one."},
		causeRestart: {Text: "Restart the server when it suits, or take back what it refuses to reload: the rest of the file does not come into force without that either. Look at the doors above first, as they will be after any restart."},
		causeReload: {
			Text:   "Reload the server (nats-server --signal reload), then compare again: if it still differs, the reload was refused, and its log says why. A changed no_auth_user is one such reason that a server does not show.",
			Reload: true,
		},
	},
	Refs: []string{refConfig},
}

// drift tells what is known of the two, and never a digest: weak passwords could
// be guessed with it.
func drift(s, r *posture.Server) Verdict {
	whole := s.Config.Whole()
	v := fail(causeReload, "%s is not what %s runs", s.Config.File, r.Name)
	source := "VARZ of " + r.Name
	if r.NoConfigFile == posture.Yes {
		v.Cause = causeNoFile
		v.Evidence = append(v.Evidence, reported(source, "config_digest: none, so it was started without a configuration file, at "+r.Start.UTC().Format(time.RFC3339)))
	} else {
		v.Evidence = append(v.Evidence, reported(source, "config_digest: of another configuration, which was loaded at "+r.ConfigLoaded.UTC().Format(time.RFC3339)))
	}
	if v.Cause != causeNoFile {
		v = reloads(v, s)
	}
	changes := 0
	for _, kind := range posture.DoorKinds() {
		now, then := r.Door(kind), s.Door(kind)
		if now == nil || then == nil || now.Access == then.Access || now.On == posture.Unseen || now.Access == posture.Unknown && then.Access != posture.Open || unread(s) {
			continue
		}
		if now.Access != posture.Unknown {
			changes++
		}
		place := whole
		for _, e := range then.Evidence {
			if e.Place != nil {
				place = *e.Place
			}
		}
		is := now.Access.String()
		if now.Basis != posture.NoBasis {
			is += " (" + now.Basis.String() + ")"
		}
		v.Evidence = append(v.Evidence, place.Says(then.Access, fmt.Sprintf("the %s port is %s after a restart; now it is %s", kind, then.Access, is)))
	}
	if unread(s) {
		v.Evidence = append(v.Evidence, whole.Says(posture.Unknown, "nats-server would not come up again with it after a restart"))
	} else if changes == 0 {
		v.Evidence = append(v.Evidence, whole.Says(posture.Unknown, "a restart changes nothing of what is known of its doors"))
	}
	return v
}

// reloads adds what is known of a reload: never that it goes through, since a server
// does not show all that it refuses to change.
func reloads(v Verdict, s *posture.Server) Verdict {
	refused := s.ReloadRefused()
	certain := slices.ContainsFunc(refused, func(r posture.Refusal) bool { return r.Unless == "" })
	switch {
	case certain:
		v.Cause = causeRestart
		v.Summary += ", and a reload will be refused"
	case len(refused) > 0:
		v.Summary += ", and a reload may be refused"
	}
	for _, why := range refused {
		text := "a reload is refused: " + why.Text
		if why.Unless != "" {
			text += ", unless " + why.Unless
		}
		v.Evidence = append(v.Evidence, why.Place.Says(posture.Unknown, text))
	}
	if !certain {
		for _, key := range s.Config.ReloadUntold() {
			v.Evidence = append(v.Evidence, key.Place.Says(posture.Unknown, "a reload is refused if "+key.Text+" is new or another one: the server does not show it"))
		}
	}
	return v
}
