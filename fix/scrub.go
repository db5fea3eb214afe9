package fix

import "strings"

// shortest is how long a secret is at least: shorter lines of a secret file are
// frames, like those of PEM.
const shortest = 16

// Scrub takes the bundle's secrets out of a text that comes from elsewhere: a
// server that refuses a configuration may quote it.
func (b *Bundle) Scrub(text string) string {
	const mark = "[secret]"
	replace := func(secret string) {
		if len(secret) >= shortest {
			text = strings.ReplaceAll(text, secret, mark)
		}
	}
	for _, l := range b.Logins {
		replace(l.password)
		replace(l.seed)
		replace(l.token)
	}
	for _, p := range b.Peers {
		replace(p.password)
	}
	for _, f := range b.secrets {
		for line := range strings.Lines(f.Text) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") {
				replace(line)
			}
		}
	}
	if o := b.plan.Original; o != nil {
		for _, u := range o.Users {
			for word := range strings.FieldsFuncSeq(u.Text, func(r rune) bool { return strings.ContainsRune(" \n\"", r) }) {
				replace(word)
			}
		}
	}
	if s := b.Service; s != nil {
		replace(s.Config.Password)
		replace(s.Config.Issuer)
		replace(s.Config.XKey)
	}
	return text
}
