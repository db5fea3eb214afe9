package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
)

// The format of plugins for Nagios, Icinga, Sensu and others: one line, and exit
// codes of their own (https://nagios-plugins.org/doc/guidelines.html). What the
// other formats end with 1 and 2 means something else there.

// nagiosFormat is the name of the format.
const nagiosFormat = "nagios"

// nagiosHelp is what the commands that have the format say of it.
const nagiosHelp = `--format nagios prints one line for Nagios and its like, and ends with their codes:
0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (not decided, wrong usage, no connection).
--fail-on is then warning unless it is given.`

// The states of a plugin are its exit codes.
const (
	nagiosOK = iota
	nagiosWarning
	nagiosCritical
	nagiosUnknown
)

var nagiosStates = [...]string{nagiosOK: "OK", nagiosWarning: "WARNING", nagiosCritical: "CRITICAL", nagiosUnknown: "UNKNOWN"}

// How much one line holds: some agents cut at 1024 bytes.
const (
	nagiosShown  = 3
	nagiosLength = 200 // characters of one finding, or of an error
)

// asPlugin makes an error one of a plugin, whose first line on standard output is
// all that anybody sees.
func (p *program) asPlugin(format string, err error) error {
	var decided *verdict
	if format != nagiosFormat || err == nil || errors.As(err, &decided) {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if werr := p.nagiosLine(nagiosUnknown, text, ""); werr != nil {
		return errors.Join(err, werr)
	}
	return err
}

// reportToNagios prints a report as a plugin does, and returns how it ends.
// undecided is the verdict on what could not be seen, nil when there is nothing.
func (p *program) reportToNagios(cmd *cobra.Command, r *finding.Report, failOn string, undecided error) error {
	if !cmd.Flags().Changed("fail-on") {
		failOn = "warning"
	}
	threshold := check.Critical + 1 // nothing counts
	if failOn != "none" {
		if err := threshold.UnmarshalText([]byte(failOn)); err != nil {
			return err
		}
	}
	state := nagiosOK
	if undecided != nil {
		state = nagiosUnknown
	}
	_, text := totals(r)
	told, more := "", 0
	worst := check.NoSeverity
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Waived != nil || f.Severity < threshold {
			continue
		}
		worst = max(worst, f.Severity)
		if more++; more > nagiosShown {
			continue
		}
		told += "; " + f.Check
		if place := firstPlace(f); place != nil {
			told += " " + place.String()
		}
		told += " " + shorten(f.Summary, nagiosLength)
	}
	if more > nagiosShown {
		told += fmt.Sprintf("; and %d more", more-nagiosShown)
	}
	switch {
	case worst == check.Critical:
		state = nagiosCritical
	case worst != check.NoSeverity:
		state = nagiosWarning
	}
	text += told
	if undecided != nil {
		text += "; " + undecided.Error()
	}
	if err := p.nagiosLine(state, text, performance(r, threshold)); err != nil {
		return err
	}
	if state == nagiosOK {
		return nil
	}
	return &verdict{code: state}
}

// nagiosLine prints the line. A pipe would begin the numbers.
func (p *program) nagiosLine(state int, text, numbers string) error {
	text = strings.ReplaceAll(clean(text), "|", "/")
	return p.print(func(w *bufio.Writer) error {
		fmt.Fprintf(w, "%s - %s", nagiosStates[state], text)
		if numbers != "" {
			fmt.Fprintf(w, " | %s", numbers)
		}
		fmt.Fprintln(w)
		return nil
	})
}

// performance are the numbers that are plotted, each with the limits that it must
// not be above: label=value;warning;critical;minimum.
func performance(r *finding.Report, threshold check.Severity) string {
	limit := func(s check.Severity) string {
		if s < threshold {
			return ""
		}
		return "0"
	}
	f, d := r.Totals.Findings, r.Totals.Doors
	return fmt.Sprintf("critical=%d;;%s;0 warning=%d;%s;;0 info=%d;%s;;0 waived=%d;;;0 open=%d;;;0 unknown=%d;;;0",
		f.Critical, limit(check.Critical), f.Warning, limit(check.Warning), f.Info, limit(check.Info), f.Waived, d.Open, d.Unknown)
}

// shorten cuts a text.
func shorten(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
