package main

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
)

// original is the configuration that is to be changed: what --config names.
type original struct{ file *conffile.File }

func readOriginal(path string) (*original, error) {
	file, err := conffile.Read(conffile.OnDisk(path))
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	for _, list := range [][]posture.Remark{file.Server.Config.Refused, file.Server.Config.Absent} {
		for _, r := range list {
			return nil, fmt.Errorf("--config: nats-server would not start with it: %s: %s", r.Place, r.Text)
		}
	}
	if s := file.Server.Config.Spellings; len(s) > 0 {
		return nil, fmt.Errorf("--config: %s: one key in two spellings, of which nats-server picks one at each start: %s", s[0].Places[0], strings.Join(s[0].Keys, " and "))
	}
	return &original{file}, nil
}

// one are settings of the block authorization that stand for one user, or for all
// who share a token: they cannot stand beside a list of users.
var one = []string{"user", "password", "token"}

// forFix is what a bundle must know of it. The modes decide which users stay.
func (o *original) forFix(modes []fix.Mode) (*fix.Original, error) {
	out := &fix.Original{}
	nameOnly := map[posture.Place]bool{}
	config := o.file.Server.Config
	for i := range config.Logins {
		l := &config.Logins[i]
		if !l.Client || l.Secret != posture.SecretNone || l.User == "" {
			continue
		}
		if strings.HasPrefix(l.Where, "accounts.") {
			out.NameOnly = append(out.NameOnly, fix.Entry{Name: l.User, Account: l.Account, Place: o.place(l.Place), NameOnly: true, Empty: l.Empty})
		} else {
			nameOnly[l.Place] = true
		}
	}
	for _, g := range config.Guests {
		if g.Door == posture.Client {
			out.NoAuthUser = g.User
		}
	}
	replaced := slices.ContainsFunc(modes, fix.OfClients)
	for _, s := range o.file.Authorization() {
		switch {
		case slices.Contains(one, s.Key) && replaced:
			return nil, fmt.Errorf("--config: %s: %s is the one login of this block, and cannot stand beside users: move it into a list `users` there first, or delete it", o.place(s.Place), s.Key)
		case s.Key == "auth_callout" && replaced:
			return nil, fmt.Errorf("--config: %s: there is an auth callout, which decides who logs in: the new users would replace it", o.place(s.Place))
		case s.Key == "" && s.User != "":
			out.Users = append(out.Users, fix.Entry{Name: s.User, Place: o.place(s.Place), NameOnly: nameOnly[s.Place], Text: s.Text()})
		case s.Key != "" && !slices.Contains(one, s.Key):
			out.Kept = append(out.Kept, s.Text())
		}
	}
	return out, nil
}

// place is where something stands, by the name that the user gave to the file.
func (o *original) place(p posture.Place) string {
	p.Column = 0
	return p.String()
}

// toDelete are the keys of the original that the files of a bundle replace, and
// the variables that only they refer to.
func (o *original) toDelete(b *fix.Bundle, at fix.Place) []string {
	places := maps.Clone(o.file.Server.Config.Keys)
	var keys []string
	for _, key := range b.Replaces(at) {
		if _, ok := places[key]; ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for key, p := range o.file.Orphans(keys) {
		places[key] = p
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(strings.Compare(places[a].File, places[b].File), cmp.Compare(places[a].Line, places[b].Line), strings.Compare(a, b))
	})
	for i, key := range keys {
		keys[i] = o.place(places[key]) + "  " + key
	}
	return keys
}

// address is where others reach a listener; "" where it has none, or its host is
// a wildcard.
func (o *original) address(kind posture.DoorKind) string {
	d := o.file.Server.Door(kind)
	if d == nil || d.On != posture.Yes {
		return ""
	}
	host, port, err := net.SplitHostPort(d.Address())
	if err != nil || !plainHost.MatchString(host) || !plainHost.MatchString(port) {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = "SERVER"
	}
	return net.JoinHostPort(host, port)
}
