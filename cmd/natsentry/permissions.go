package main

import (
	"bufio"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/service"
)

// grants are the subjects that natsentry uses, and no others.
type grants struct {
	asks, publishes       []string // publish
	hears, serves, watch  []string // subscribe
	user, account, prefix string
}

func newGrants(user, account, prefix string) grants {
	publishes, serves := service.Permissions(prefix)
	return grants{
		asks: collect.Requests(), publishes: publishes,
		hears: append([]string{inboxPrefix + ".>"}, collect.Events()...), serves: serves,
		watch: publishes, // what one publishes, the other reads
		user:  user, account: account, prefix: prefix,
	}
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

func (p *program) permissionsCommand() *cobra.Command {
	var user, account, prefix string
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Print the least-privilege user that natsentry needs",
		Long: `Prints a user of the system account that may do what natsentry does and
nothing else: not reload, not kick, not drain a server, not read an account's
JWT. As a part of a server's configuration file, or as nsc commands.`,
		Example: `  natsentry permissions                        # goes into accounts { SYS { users [ ... ] } }
  natsentry permissions --user auditor --prefix audit.eu
  natsentry permissions --format nsc --account SYS`,
		Args:        cobra.NoArgs,
		Annotations: offlineCommand,
	}
	format := chooseFlag(cmd, "format", "how to print it", "config", "nsc")
	cmd.Flags().StringVar(&user, "user", service.Name, "`name` of the user")
	cmd.Flags().StringVar(&account, "account", "SYS", "`name` of the system account")
	cmd.Flags().StringVar(&prefix, "prefix", service.DefaultPrefix, "`prefix` of the service's subjects")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkPrefix(prefix); err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		for flag, name := range map[string]string{"user": user, "account": account} {
			if !plainName.MatchString(name) {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--%s %q: letters, digits and $ _ . @ + = - are accepted", flag, name)}
			}
		}
		g := newGrants(user, account, prefix)
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
	block := func(comment string, subjects []string) {
		fmt.Fprintf(w, "      # %s\n", comment)
		for _, s := range subjects {
			fmt.Fprintf(w, "      %q\n", s)
		}
	}
	fmt.Fprintf(w, "# One of the users of the system account: accounts { %s { users [ ... ] } }\n", g.account)
	fmt.Fprintf(w, "# `nats server passwd` makes the password; until it is replaced, nobody can log in.\n")
	fmt.Fprintf(w, "{\n  user: %q\n  password: %q\n  permissions {\n", g.user, placeholder)
	fmt.Fprint(w, "    publish { allow: [\n")
	block("what the servers are asked; * is PING and every server id", g.asks)
	block("what `natsentry run` publishes", g.publishes)
	fmt.Fprint(w, "    ] }\n    subscribe { allow: [\n")
	block("answers, and servers that say goodbye", g.hears)
	block("requests that `natsentry run` answers", g.serves)
	block("`natsentry watch`", g.watch)
	fmt.Fprint(w, "    ] }\n    # answers of `natsentry run`\n    allow_responses: true\n  }\n}\n")
}

// nsc writes the user as a command.
func (g grants) nsc(w *bufio.Writer) {
	var lines []string
	for _, list := range []struct {
		flag     string
		subjects [][]string
	}{{"--allow-pub", [][]string{g.asks, g.publishes}}, {"--allow-sub", [][]string{g.hears, g.serves, g.watch}}} {
		for _, subjects := range list.subjects {
			lines = append(lines, fmt.Sprintf("%s '%s'", list.flag, strings.Join(subjects, ",")))
		}
	}
	fmt.Fprintf(w, "nsc add user --account '%s' --name '%s' \\\n  %s \\\n  --allow-pub-response --response-ttl 2m\n", g.account, g.user, strings.Join(lines, " \\\n  "))
	fmt.Fprintf(w, "nsc generate creds --account '%s' --name '%s' --output-file '%s.creds'\n", g.account, g.user, strings.TrimLeft(g.user, "$"))
}
