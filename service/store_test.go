package service

import (
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
)

// What an agent publishes to its store is shared, once, and nothing is that
// would end it.
func TestStoreShares(t *testing.T) {
	shares := StoreShares()
	publish, _ := StorePermissions(DefaultPrefix)
	for _, subject := range publish {
		covers := 0
		for _, s := range shares {
			if jwt.Subject(subject).IsContainedIn(jwt.Subject(s.Local)) {
				covers++
				if s.Stream != strings.HasPrefix(subject, StoreAPI+".CONSUMER.") {
					t.Errorf("%s: several answers %v", subject, s.Stream)
				}
			}
		}
		if covers != 1 {
			t.Errorf("%s is imported %d times", subject, covers)
		}
	}
	for _, api := range []string{"STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.CREATE", "STREAM.MSG.DELETE", "STREAM.RESTORE", "STREAM.SNAPSHOT"} {
		for _, s := range shares {
			if jwt.Subject("$JS.API." + api + "." + StoreStream).IsContainedIn(jwt.Subject(s.Subject)) {
				t.Errorf("%s shares %s", s.Subject, api)
			}
		}
	}
	// Both ends have the same wildcards, and what they add is the prefix.
	for _, s := range shares {
		local := strings.Replace(s.Local, StoreAPI+".", "", 1)
		if s.Subject != local && s.Subject != "$JS.API."+local {
			t.Errorf("%s is imported as %s", s.Subject, s.Local)
		}
	}
	var imports jwt.Imports
	for _, s := range shares {
		imports.Add(&jwt.Import{Name: s.Subject, Subject: jwt.Subject(s.Subject), LocalSubject: jwt.RenamingSubject(s.Local), Account: "A", Type: jwt.Service})
	}
	var results jwt.ValidationResults
	imports.Validate("B", &results)
	if errs := results.Errors(); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestStorePrefixStands(t *testing.T) {
	c := StoreStreamConfig(3, 0)
	if len(c.Subjects) != 1 || !jwt.Subject(storeSubject+".x").IsContainedIn(jwt.Subject(c.Subjects[0])) {
		t.Errorf("the stream takes %v", c.Subjects)
	}
	if c.Replicas != 3 || StoreBucketConfig(3).Replicas != 3 || c.MaxMsgsPerSubject > 0 || c.MaxMsgs > 0 || c.MaxBytes > 0 {
		t.Errorf("%+v", c)
	}
}
