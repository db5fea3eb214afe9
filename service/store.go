package service

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StoreShare is a part of the account that keeps which the system account may
// use: what is sent to Local there is a request on Subject here.
type StoreShare struct {
	Subject string // the account that keeps exports this service
	Local   string // the system account imports it as this
	Stream  bool   // a request may have several answers
}

// StoreShares lists what an agent needs to keep in another account over its
// connection into the system account. It is enough to read what is kept and to
// add to it: nobody in the system account can delete the stream, or purge it.
//
// The subjects do not overlap. Account JWTs do not allow it, and a server does
// not start with a system account whose imports overlap.
func StoreShares() []StoreShare {
	kv := "$KV." + StoreBucket + ".>" // the client puts the API's prefix before it
	out := []StoreShare{
		{Subject: StorePrefix + ".>", Local: StorePrefix + ".>"},
		{Subject: kv, Local: StoreAPI + "." + kv},
	}
	for _, api := range []string{"STREAM.INFO.*", "STREAM.MSG.GET.*", "DIRECT.GET.>", "CONSUMER.>"} {
		out = append(out, StoreShare{Subject: "$JS.API." + api, Local: StoreAPI + "." + api, Stream: strings.HasPrefix(api, "CONSUMER.")})
	}
	return out
}

// StoreStreamConfig is the stream of transitions. Messages leave it by age
// only: there is no limit for each subject, since all transitions of a finding
// have the same one, and nobody can delete or purge them.
func StoreStreamConfig(replicas int, maxAge time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: StoreStream, Description: "Findings of natsentry: what opened, changed and ended",
		Subjects: []string{StorePrefix + ".>"}, Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: maxAge, AllowDirect: true,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		DenyDelete: true, DenyPurge: true,
	}
}

// StoreBucketConfig is the bucket of the ledger and the lease.
func StoreBucketConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: StoreBucket, Description: "What natsentry knows of each finding, and which agent leads",
		History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
	}
}
