package main

import (
	"bufio"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/service"
)

// grants are the subjects that natsentry uses, and no others.
type grants struct {
	user, account      string
	publish, subscribe []grant
}

// grant is a group of subjects, and why.
type grant struct {
	why      string
	subjects []string
}

func newGrants(user, account, prefix string, store bool) grants {
	publishes, serves := service.Permissions(prefix)
	g := grants{
		user: user, account: account,
		publish: []grant{
			{"what the servers are asked; * is PING and every server id, or an account", collect.Requests()},
			{"what `natsentry run` publishes", publishes},
			{"`natsentry history`", service.HistoryPermissions(prefix)},
		},
		subscribe: []grant{
			{"answers", []string{inboxPrefix + ".>"}},
			{"events of the servers, and requests that change them (see docs/permissions.md on CONNECT)", collect.Events()},
			{"requests that `natsentry run` answers", serves},
			{"`natsentry watch`", publishes}, // what one publishes, the other reads
		},
	}
	if store {
		keeps, between := service.StorePermissions(prefix)
		g.publish = append(g.publish,
			grant{"`natsentry run --store`: keeping, and reading what is kept", keeps},
			grant{"and what one agent asks another", between})
		g.subscribe = append(g.subscribe, grant{"`natsentry run --store`: what one agent asks another", between})
	}
	return g
}

// Names that can stand in a configuration file, in a shell command and in a
// subject without any quoting of their own.
var (
	plainName   = regexp.MustCompile(`^[0-9A-Za-z$_][0-9A-Za-z$_.@+=-]*$`)
	plainPrefix = regexp.MustCompile(`^[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*$`)
)

// checkPrefix refuses what cannot start the subjects of the service.
func checkPrefix(prefix string) error {
	if !plainPrefix.MatchString(prefix) {
		return fmt.Errorf("--prefix %q cannot start subjects: it must be tokens of letters, digits, - and _, joined by dots", prefix)
	}
	return nil
}

// checkNames refuses names of accounts and users that would need quoting. It is
// given them by flag.
func checkNames(names map[string]string) error {
	for _, flag := range slices.Sorted(maps.Keys(names)) {
		if !plainName.MatchString(names[flag]) {
			return fmt.Errorf("--%s %q: letters, digits and $ _ . @ + = - are accepted", flag, names[flag])
		}
	}
	return nil
}

func (p *program) permissionsCommand() *cobra.Command {
	var (
		user, account, prefix string
		store                 bool
	)
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Print the least-privilege user that natsentry needs",
		Long: `Prints a user of the system account that may do what natsentry does and
nothing else: not reload, not kick, not drain a server, not push an account's
JWT. As a part of a server's configuration file, or as nsc commands.

With --store it may also keep what it tells in JetStream, as natsentry setup sets
it up.`,
		Example: `  natsentry permissions                        # goes into accounts { SYS { users [ ... ] } }
  natsentry permissions --store                # for natsentry run --store
  natsentry permissions --user auditor --prefix audit.eu
  natsentry permissions --format nsc --account SYS`,
		Args:        cobra.NoArgs,
		Annotations: offlineCommand,
	}
	format := chooseFlag(cmd, "format", "how to print it", "config", "nsc")
	cmd.Flags().StringVar(&user, "user", service.Name, "`name` of the user")
	cmd.Flags().StringVar(&account, "account", "SYS", "`name` of the system account")
	cmd.Flags().StringVar(&prefix, "prefix", service.DefaultPrefix, "`prefix` of the service's subjects")
	cmd.Flags().BoolVar(&store, "store", false, "for natsentry run --store, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkPrefix(prefix); err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		if err := checkNames(map[string]string{"user": user, "account": account}); err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		g := newGrants(user, account, prefix, store)
		return p.print(func(w *bufio.Writer) error {
			if format.value == "nsc" {
				g.nsc(w)
			} else {
				g.config(w)
			}
			return nil
		})
	}
	return cmd
}

// placeholder is a password with which nobody can log in: it looks like a
// bcrypt hash and is none.
const placeholder = "$2a$11$REPLACE.WITH.THE.OUTPUT.OF.nats.server.passwd"

// config writes the user as one entry of the users of the system account.
func (g grants) config(w *bufio.Writer) {
	list := func(grants []grant) {
		for _, gr := range grants {
			fmt.Fprintf(w, "      # %s\n", gr.why)
			for _, s := range gr.subjects {
				fmt.Fprintf(w, "      %q\n", s)
			}
		}
	}
	fmt.Fprintf(w, "# One of the users of the system account: accounts { %s { users [ ... ] } }\n", g.account)
	fmt.Fprintf(w, "# `nats server passwd` makes the password; until it is replaced, nobody can log in.\n")
	fmt.Fprintf(w, "{\n  user: %q\n  password: %q\n  permissions {\n", g.user, placeholder)
	fmt.Fprint(w, "    publish { allow: [\n")
	list(g.publish)
	fmt.Fprint(w, "    ] }\n    subscribe { allow: [\n")
	list(g.subscribe)
	fmt.Fprint(w, "    ] }\n    # answers of `natsentry run`\n    allow_responses: true\n  }\n}\n")
}

// nsc writes the user as a command.
func (g grants) nsc(w *bufio.Writer) {
	var lines []string
	for _, list := range []struct {
		flag   string
		grants []grant
	}{{"--allow-pub", g.publish}, {"--allow-sub", g.subscribe}} {
		for _, gr := range list.grants {
			lines = append(lines, fmt.Sprintf("%s '%s'", list.flag, strings.Join(gr.subjects, ",")))
		}
	}
	fmt.Fprintf(w, "nsc add user --account '%s' --name '%s' \\\n  %s \\\n  --allow-pub-response --response-ttl 2m\n", g.account, g.user, strings.Join(lines, " \\\n  "))
	fmt.Fprintf(w, "nsc generate creds --account '%s' --name '%s' --output-file '%s'\n", g.account, g.user, credsFile(g.user))
}

// credsFile is where nsc is told to write a user's credentials.
func credsFile(user string) string { return strings.TrimLeft(user, "$") + ".creds" }
