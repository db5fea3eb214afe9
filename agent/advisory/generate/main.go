// Command generate makes the table of package advisory from its sources. It
// understands all of them or fails.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/advisory"
)

func main() {
	from := flag.String("from", "data", "the `folder` with asof, secnotes.json and osv")
	to := flag.String("to", "table.json", "the `file` to write")
	flag.Parse()
	table, err := generate(*from)
	if err == nil {
		err = os.WriteFile(*to, table, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// generate reads a folder of sources and returns the table as JSON, the same for
// the same sources.
func generate(dir string) ([]byte, error) {
	asOf, err := os.ReadFile(filepath.Join(dir, "asof"))
	if err != nil {
		return nil, err
	}
	table := advisory.Table{
		AsOf: strings.TrimSpace(string(asOf)),
		Sources: []string{
			"NATS project advisories, https://advisories.nats.io",
			"Go vulnerability database, https://vuln.go.dev, © The Go Authors, CC-BY-4.0, https://creativecommons.org/licenses/by/4.0/",
			"CVE records, https://www.cve.org: the numbers that came after the advisories",
		},
	}
	if _, err := time.Parse(time.DateOnly, table.AsOf); err != nil {
		return nil, fmt.Errorf("asof: %w", err)
	}
	notes, err := readNotes(filepath.Join(dir, "secnotes.json"))
	if err != nil {
		return nil, err
	}
	records, err := readRecords(filepath.Join(dir, "osv"))
	if err != nil {
		return nil, err
	}
	cves, err := readCVEs(filepath.Join(dir, "cves.json"))
	if err != nil {
		return nil, err
	}
	if table.Advisories, err = number(merge(notes, records), cves); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(table); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
