package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/natsentry/natsentry/service"
)

// config prints a set-up for configuration files: everything, in the order in
// which it is done.
func (s setup) config(w *bufio.Writer) {
	fmt.Fprint(w, "# The store of `natsentry run --store`, in five steps.\n\n")
	fmt.Fprintf(w, "# 1. The account that keeps: one of accounts { ... }, on every server. JetStream must\n#    be on there, as in: jetstream { store_dir: \"/var/lib/nats\" }\n")
	s.accountConf(w)
	fmt.Fprintf(w, "\n# 2. What the system account uses of it: a part of accounts { %q: { ... } }, on\n#    every server.\n", s.system)
	s.importsConf(w)
	fmt.Fprintf(w, "\n# 3. The user of natsentry, in the system account:\nnatsentry permissions --store --account '%s'\n", s.system)
	fmt.Fprintf(w, "\n# 4. Reload the servers. Then, as the user %s, make the stream and the bucket.\n", s.user)
	s.advice(w)
	fmt.Fprintf(w, "nats stream add %s\n%s\n", s.streamFlags(), s.bucketCommand(""))
	fmt.Fprint(w, "\n# 5. Start natsentry, as the user of step 3. The user of step 4 reads what it keeps:\n#    "+readStream+"\nnatsentry run --store\n")
}

// moreCopies is advice for whoever asks for one.
const moreCopies = "In a cluster, 3 outlive a server: natsentry setup --replicas 3"

// advice says how many copies there should be.
func (s setup) advice(w *bufio.Writer) {
	if s.replicas == 1 {
		fmt.Fprintf(w, "# This makes one copy of what is kept. %s\n", moreCopies)
	}
}

// accountConf writes the account that keeps, as a part of accounts.
func (s setup) accountConf(w *bufio.Writer) {
	fmt.Fprint(w, "# `nats server passwd` makes the password; until it is replaced, nobody can log in.\n")
	fmt.Fprintf(w, "%q: {\n  jetstream: enabled\n  users: [ { user: %q, password: %q } ]\n", s.account, s.user, placeholder)
	fmt.Fprint(w, "  # Enough to read and to add: over these, nobody deletes the stream or purges it.\n  exports: [\n")
	for _, share := range s.shares {
		fmt.Fprintf(w, "    { service: %q, accounts: [ %q ]", share.Subject, s.system)
		if share.Stream {
			fmt.Fprint(w, ", response_type: stream")
		}
		fmt.Fprint(w, " }\n")
	}
	fmt.Fprint(w, "  ]\n}\n")
}

// importsConf writes what the system account imports.
func (s setup) importsConf(w *bufio.Writer) {
	fmt.Fprint(w, "# Where the system account has imports already, add these to them: of two lists\n# in one account, only the last one counts.\nimports: [\n")
	for _, share := range s.shares {
		fmt.Fprintf(w, "  { service: { account: %q, subject: %q }, to: %q }\n", s.account, share.Subject, share.Local)
	}
	fmt.Fprint(w, "]\n")
}

// nextConfig says what to do with the files.
func (s setup) nextConfig(w *bufio.Writer, dir string) {
	fmt.Fprintf(w, `1. Make a password with "nats server passwd", and put its hash into account.conf.

2. Copy account.conf and imports.conf beside the configuration file of every
   server, and include them there. JetStream must be on.

     accounts {
       include "account.conf"
       %q: {
         include "imports.conf"
         users: [ ... ]
       }
     }
     jetstream { store_dir: "/var/lib/nats" }

   Where %s has imports already, add those of imports.conf to them instead.

3. Put what this prints among the users of %s, and reload the servers:

     natsentry permissions --store --account '%s'

4. As the user %s of %s, make the stream and the bucket:

     nats stream add --config %s
     %s

5. Start natsentry, as the user of step 3. The user of step 4 reads what it keeps:

     natsentry run --store
     `+readStream+`
`, s.system, s.system, s.system, s.system, s.user, s.account, quoted(filepath.Join(dir, "stream.json")), s.bucketCommand(""))
}

// script prints a set-up for operator mode, as a shell script.
func (s setup) script(w *bufio.Writer) {
	fmt.Fprint(w, "# The store of `natsentry run --store`. Read this, then run it with sh where nsc has\n# your operator, and where NATS_URL or a nats context leads to your servers.\nset -e\n\n")
	s.accountsScript(w)
	fmt.Fprint(w, "\n# The stream and the bucket. JetStream must be on: jetstream { store_dir: \"/var/lib/nats\" }\n")
	s.advice(w)
	fmt.Fprintf(w, "nats --creds '%s' stream add %s\n%s\n", credsFile(s.user), s.streamFlags(), s.bucketCommand(credsFile(s.user)))
	fmt.Fprintf(w, "\n# Then make the user that runs natsentry, and start it:\n#    natsentry permissions --store --format nsc --account '%s'\n#    natsentry run --store\n# This reads what it keeps:\n#    %s\n", s.system,
		strings.Replace(readStream, "nats ", "nats --creds '"+credsFile(s.user)+"' ", 1))
}

// accountsScript writes the nsc commands. The exports are private: another
// account that imports them would read what is kept, and forge it.
func (s setup) accountsScript(w *bufio.Writer) {
	fmt.Fprintf(w, "# The account that keeps, with JetStream.\nnsc add account --name '%s'\nnsc edit account --name '%s' --js-mem-storage -1 --js-disk-storage -1\n", s.account, s.account)
	fmt.Fprint(w, "\n# What the system account uses of it: enough to read and to add. The activations\n# keep other accounts out; nsc copies them into the imports.\n")
	for i, share := range s.shares {
		kind := ""
		if share.Stream {
			kind = " --response-type Stream"
		}
		fmt.Fprintf(w, "nsc add export --account '%s' --subject '%s' --service --private%s\n", s.account, share.Subject, kind)
		fmt.Fprintf(w, "nsc generate activation --account '%s' --target-account '%s' --subject '%s' --output-file %s\n", s.account, s.system, share.Subject, activationFile(i))
		fmt.Fprintf(w, "nsc add import --account '%s' --token %s --local-subject '%s'\n", s.system, activationFile(i), share.Local)
	}
	fmt.Fprint(w, "rm -f")
	for i := range s.shares {
		fmt.Fprint(w, " ", activationFile(i))
	}
	fmt.Fprintf(w, "\n\n# A user who makes the stream and the bucket, and reads them.\nnsc add user --account '%s' --name '%s'\n", s.account, s.user)
	fmt.Fprintf(w, "nsc generate creds --account '%s' --name '%s' --output-file '%s'\n", s.account, s.user, credsFile(s.user))
	fmt.Fprintf(w, "\n# To the servers. With a memory resolver, take `nsc generate config --mem-resolver`\n# instead, and reload them.\nnsc push --account '%s'\nnsc push --account '%s'\n", s.account, s.system)
}

func activationFile(i int) string { return fmt.Sprintf("activation-%d.jwt", i+1) }

// nextScript says what to do with the files.
func (s setup) nextScript(w *bufio.Writer, dir string) {
	fmt.Fprintf(w, `1. Read accounts.sh, and run it where nsc has your operator. It leaves %s.

     sh -e %s

2. Make the stream and the bucket. JetStream must be on, on the servers.

     nats --creds '%s' stream add --config %s
     %s

3. Make the user that runs natsentry:

     natsentry permissions --store --format nsc --account '%s' | sh

4. Start natsentry, as that user. The one of step 2 reads what it keeps:

     natsentry run --store
     %s
`, credsFile(s.user), quoted(filepath.Join(dir, "accounts.sh")), credsFile(s.user), quoted(filepath.Join(dir, "stream.json")), s.bucketCommand(credsFile(s.user)), s.system,
		strings.Replace(readStream, "nats ", "nats --creds '"+credsFile(s.user)+"' ", 1))
}

// streamFlags is the stream as arguments of `nats stream add`.
func (s setup) streamFlags() string {
	c := service.StoreStreamConfig(s.replicas, s.maxAge.d)
	maxAge := s.maxAge.text
	if s.maxAge.d == 0 {
		maxAge = "-1"
	}
	return fmt.Sprintf("%s --subjects '%s' --description '%s' --storage file --replicas %d --retention limits --discard old --max-age=%s --allow-direct --deny-delete --deny-purge --defaults",
		c.Name, strings.Join(c.Subjects, ","), c.Description, c.Replicas, maxAge)
}

// streamFile is the stream as `nats stream add --config` reads it.
func (s setup) streamFile() (string, error) {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // of ">"
	e.SetIndent("", "  ")
	if err := e.Encode(service.StoreStreamConfig(s.replicas, s.maxAge.d)); err != nil {
		return "", fmt.Errorf("write the stream: %w", err)
	}
	return out.String(), nil
}

// bucketCommand makes the bucket, with these credentials if any.
func (s setup) bucketCommand(creds string) string {
	c := service.StoreBucketConfig(s.replicas)
	login := ""
	if creds != "" {
		login = " --creds '" + creds + "'"
	}
	return fmt.Sprintf("nats%s kv add %s --description '%s' --storage file --replicas %d --history %d", login, c.Bucket, c.Description, c.Replicas, c.History)
}

// readStream shows what is kept, and then what comes.
const readStream = "nats sub --stream " + service.StoreStream + " --all"

var plainPath = regexp.MustCompile(`^[0-9A-Za-z_./:+-]+$`)

// quoted is a path as a shell takes it.
func quoted(path string) string {
	path = clean(path)
	if plainPath.MatchString(path) && !strings.HasPrefix(path, "-") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
