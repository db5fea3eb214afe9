package service

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/finding"
)

// Name is the name of the micro service.
const Name = "natsentry"

// DefaultPrefix starts every subject of the service.
const DefaultPrefix = "audit.auth"

// FindingSubject is where all findings are published.
func FindingSubject(prefix string) string { return prefix + ".finding.>" }

// EpochSubject is where a message follows every sweep.
func EpochSubject(prefix string) string { return prefix + ".epoch" }

// Permissions lists the subjects that the service publishes and subscribes
// to, beside replies.
func Permissions(prefix string) (publish, subscribe []string) {
	publish = []string{FindingSubject(prefix), EpochSubject(prefix)}
	for _, e := range endpoints {
		subscribe = append(subscribe, prefix+e.suffix)
	}
	return publish, append(subscribe, "$SRV.>")
}

// StorePermissions lists the subjects that keeping in JetStream publishes to,
// over a connection into the system account, and those that agents of one
// system use between them: these are also subscribed to.
func StorePermissions(prefix string) (publish, between []string) {
	publish = []string{storeSubject + ".>", StoreAPI + ".$KV." + StoreBucket + ".>"}
	for _, stream := range []string{StoreStream, "KV_" + StoreBucket} {
		for _, api := range []string{"STREAM.INFO.%s", "STREAM.MSG.GET.%s", "DIRECT.GET.%s", "DIRECT.GET.%s.>", "CONSUMER.CREATE.%s.>", "CONSUMER.MSG.NEXT.%s.*", "CONSUMER.DELETE.%s.*"} {
			publish = append(publish, StoreAPI+"."+strings.Replace(api, "%s", stream, 1))
		}
	}
	return publish, []string{leaderSubject(prefix, "*")}
}

// HistoryPermissions lists the subjects that tell what became of findings: who
// asks for it publishes to them.
func HistoryPermissions(prefix string) []string {
	return []string{prefix + ".history", prefix + ".findings"}
}

// findingSubject is where one finding is published:
// <prefix>.finding.<action>.<severity>.<check>.<cluster>.<server>.
func findingSubject(prefix string, f *finding.Finding) string {
	return strings.Join([]string{
		prefix, "finding", string(f.Action), f.Severity.String(), token(f.Check), token(f.Scope.Cluster), token(f.Scope.Server),
	}, ".")
}

// token makes one token of a subject out of any name.
func token(s string) string {
	return cmp.Or(strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == '.' || r == '*' || r == '>' {
			return '_'
		}
		return r
	}, s), "_")
}

func validatePrefix(prefix string) error {
	for t := range strings.SplitSeq(prefix, ".") {
		if t == "" || token(t) != t || strings.HasPrefix(t, "$") {
			return fmt.Errorf("service: %q cannot start subjects: it must be tokens joined by dots, without spaces, wildcards or $", prefix)
		}
	}
	return nil
}
