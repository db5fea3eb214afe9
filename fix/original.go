package fix

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Original is what a bundle must know of the configuration that it changes. It
// may hold secrets, and prints as nothing.
type Original struct {
	// NoAuthUser is that of the whole server; "" if there is none.
	NoAuthUser string
	// Kept are lines of the block authorization that stay: a timeout, default
	// permissions. Users are the users of that block.
	Kept  []string
	Users []Entry
	// NameOnly are users elsewhere whose name alone is enough to log in: they have
	// no password, or an empty one.
	NameOnly []Entry
}

// String does not print what is in it.
func (o *Original) String() string { return "the original configuration" }

// GoString does not print what is in it.
func (o *Original) GoString() string { return o.String() }

// Entry is a user of the original configuration. It prints as its name.
type Entry struct {
	Name     string
	Account  string // "" is the global one
	Place    string // file and line
	NameOnly bool   // its name alone is enough to log in
	Empty    bool   // it has a password, which is empty
	Text     string // its fields as they are written, one a line
}

// String does not print the fields.
func (e Entry) String() string { return e.Name }

// GoString does not print the fields.
func (e Entry) GoString() string { return e.Name }

// original is never nil.
func (b *builder) original() *Original {
	if b.plan.Original == nil {
		return &Original{}
	}
	return b.plan.Original
}

// replacesUsers reports whether the bundle writes the block authorization anew.
func (b *builder) replacesUsers() bool { return b.clientMode() }

// unproven are the users that stay and that need a password.
func (b *builder) unproven() []Entry {
	o := b.original()
	if b.has(Operator) || b.has(TLSMap) || b.has(Callout) {
		// There, users of the configuration cannot stay, or their certificates
		// prove who they are, or the callout service is asked about them.
		return nil
	}
	out := slices.Clone(o.NameOnly)
	if !b.replacesUsers() {
		for _, u := range o.Users {
			if u.NameOnly {
				out = append(out, u)
			}
		}
	}
	return out
}

// plainFile is a user's name that can be that of a file.
var plainFile = regexp.MustCompile(`^[0-9A-Za-z_-]{1,40}$`)

// addPasswords gives a password to each user whose name alone would be enough:
// a no_auth_user without a password can still be named after the key is gone.
func addPasswords(b *builder) error {
	for i, u := range b.unproven() {
		name := u.Name
		if !plainFile.MatchString(name) {
			name = fmt.Sprintf("user-%d", i+1)
		}
		password, hash, err := b.newPassword()
		if err != nil {
			return err
		}
		file := name + ".user.conf"
		b.Logins = append(b.Logins, Login{
			Name: u.Name, Account: cmp.Or(u.Account, globalAccount), By: ByPassword, password: password, File: b.keep(name+".password", password+"\n"),
		})
		b.entries = append(b.entries, entryFile{u, file, fmt.Sprintf("# The password of user %q, as a bcrypt hash.\npassword: %q\n", u.Name, hash)})
	}
	return nil
}

// Asks reports whether the server as it was found has users: then it refuses the
// new ones before the change.
func (b *Bundle) Asks() bool { return b.plan.KeepAccounts || len(b.entries) > 0 }

// entryFile is a file that is included in the entry of a user.
type entryFile struct {
	user       Entry
	name, text string
}

// mark stands where the file is included.
func (e entryFile) mark() string { return "# " + e.name + "\n" }

// foundUsers are the users of the server as it was found, by account, as a
// configuration has them: those whose name alone is enough.
func (b *builder) foundUsers() (authorization string, accounts map[string]string) {
	accounts = map[string]string{}
	for _, e := range b.entries {
		entry := fmt.Sprintf("{\nuser: %q\n%s}\n", e.user.Name, e.mark())
		if e.user.Account == "" {
			authorization += entry
		} else {
			accounts[e.user.Account] += entry
		}
	}
	return authorization, accounts
}

// kept are the lines of the block authorization that stay.
func (o *Original) kept() string {
	var w strings.Builder
	for _, line := range o.Kept {
		for l := range strings.Lines(line + "\n") {
			w.WriteString("  " + l)
		}
	}
	return w.String()
}

// ownPermissions keep default permissions away from a user that must not be
// restricted by them.
func (o *Original) ownPermissions() string {
	if len(o.Kept) == 0 {
		return ""
	}
	return `, permissions: { publish: ">", subscribe: ">" }`
}

// carried are the users of the block authorization that stay, and a password for
// those without one.
func (b *builder) carried() ([]string, error) {
	var out []string
	for i, u := range b.original().Users {
		text := strings.TrimSpace(u.Text)
		if u.NameOnly {
			password, hash, err := b.newPassword()
			if err != nil {
				return nil, err
			}
			name := u.Name
			if !plainFile.MatchString(name) {
				name = fmt.Sprintf("kept-%d", i+1)
			}
			b.Logins = append(b.Logins, Login{
				Name: u.Name, Account: cmp.Or(u.Account, globalAccount), By: ByPassword, password: password, File: b.keep(name+".password", password+"\n"),
			})
			text = emptyPassword.ReplaceAllString(text, "") + fmt.Sprintf("\npassword: %q", hash)
		}
		out = append(out, strings.ReplaceAll("\n"+text, "\n", "\n      ")+"\n   ")
	}
	return out, nil
}

// emptyPassword is the password of a user whose name alone is enough.
var emptyPassword = regexp.MustCompile(`(?m)^password: .*$\n?`)

// free is a name for a new user that no user of the block has.
func (o *Original) free(name string) string {
	taken := func(n string) bool {
		return slices.ContainsFunc(append(slices.Clone(o.Users), o.NameOnly...), func(u Entry) bool { return u.Name == n })
	}
	for n, i := name, 2; ; n, i = fmt.Sprintf("%s-%d", name, i), i+1 {
		if !taken(n) {
			return n
		}
	}
}

// topKey is a key that a file writes outside of any block of its own.
var topKey = regexp.MustCompile(`(?m)^"?([A-Za-z_]+)"?\s*[:{]|^([a-z_]+) \{`)

// Replaces lists the keys that a file writes, by their paths in the
// configuration: what the original has under them must go.
func (b *Bundle) Replaces(at Place) []string {
	var out []string
	for _, p := range b.parts {
		prefix := ""
		if p.kind.block != "" {
			prefix = p.kind.block + "."
		}
		for _, m := range topKey.FindAllStringSubmatch(p.text(at), -1) {
			if key := prefix + cmp.Or(m[1], m[2]); !slices.Contains(out, key) {
				out = append(out, key)
			}
		}
		if p.kind.mode == Operator {
			out = append(out, "accounts", "authorization", "no_auth_user")
		}
	}
	return out
}
