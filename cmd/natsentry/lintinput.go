package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/conffile/form"
	confsyntax "github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/manifest"
)

// lintInput is what the arguments of lint stand for.
type lintInput struct {
	words   []string // flags of nats-server
	version string   // of nats-server; "" if nobody has told
	env     func(string) (string, bool)
	sources []lintSource
	set     manifest.Set
	held    bool // there are manifests
	notes   []string
	skipped []skippedFile
}

// skippedFile is a file in a folder that is not judged.
type skippedFile struct{ name, why string }

// shownSkipped is how many of them are listed.
const shownSkipped = 20

// notJudged lists the files that were skipped, without those that are a part of a
// configuration.
func (in *lintInput) notJudged(parts map[string]bool) []string {
	skipped := slices.DeleteFunc(slices.Clone(in.skipped), func(s skippedFile) bool { return parts[s.name] })
	var out []string
	for i, s := range skipped {
		if i == shownSkipped {
			out = append(out, fmt.Sprintf("%s skipped as well", plural(len(skipped)-i, "file is", "files are")))
			break
		}
		out = append(out, s.name+" is skipped: "+s.why)
	}
	return out
}

func (in *lintInput) add(name string, text []byte, fragment bool) {
	in.sources = append(in.sources, lintSource{
		Source: conffile.Source{Name: name, Text: text, Read: conffile.Disk, Env: in.env, Args: in.words, Version: in.version}, fragment: fragment,
	})
}

// manifests adds the configurations that the manifests hold. Those who run them do
// not see the environment of this program.
func (in *lintInput) manifests(env func(string) (string, bool)) ([]*manifest.Configuration, error) {
	if !in.held {
		return nil, nil
	}
	all, err := in.set.Configurations(in.words, env)
	if errors.Is(err, manifest.ErrNone) && len(in.sources) > 0 {
		in.notes = append(in.notes, "beside the files: "+err.Error())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		c.Version = cmp.Or(c.Version, in.version) // an image tells it better
		in.sources = append(in.sources, lintSource{fragment: c.Fragment, manifest: c})
	}
	return all, nil
}

// text adds a file by what is in it: manifests are told by their apiVersion and
// kind.
func (in *lintInput) text(name string, text []byte, yaml bool) error {
	if manifest.Is(text) {
		in.held = true
		return in.set.Add(name, text)
	}
	var (
		f       form.Foreign
		foreign bool
	)
	switch {
	case yaml || manifest.Template(text) && bytes.Contains(text, []byte("apiVersion")) || in.looksYAML(name, text):
		if f, foreign = form.OfYAML(text); !foreign {
			return fmt.Errorf("%s: it looks like YAML without Kubernetes objects, and is no configuration of nats-server", name)
		}
	default:
		f, foreign = form.Of(name, text)
	}
	if foreign {
		return fmt.Errorf("%s: %s", name, f)
	}
	in.add(name, text, false)
	return nil
}

// looksYAML reports whether a text is YAML and nothing that nats-server can read.
func (in *lintInput) looksYAML(name string, text []byte) bool {
	if !manifest.LooksYAML(text) {
		return false
	}
	_, err := confsyntax.Parse(name, text, confsyntax.Surroundings{Read: conffile.Disk, Env: in.env})
	return err != nil
}

// ofTemplate reports whether a file is named as a template of a configuration.
func ofTemplate(name string) bool {
	ext := filepath.Ext(name)
	return form.TemplateSuffix(name) && filepath.Ext(strings.TrimSuffix(name, ext)) == ".conf"
}

func isYAML(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// lintSources reads what the arguments stand for.
func (p *program) lintSources(in *lintInput, args []string) error {
	seen := map[string]bool{}
	for _, arg := range args {
		if arg == "-" {
			if seen[arg] {
				continue
			}
			seen[arg] = true
			text, err := io.ReadAll(io.LimitReader(p.stdin, conffile.MostBytes+1))
			if err != nil {
				return fmt.Errorf("read standard input: %w", err)
			}
			if text == nil {
				text = []byte{}
			}
			if err := in.text(stdinName, text, false); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := in.folder(arg, seen); err != nil {
				return err
			}
			continue
		}
		name := filepath.Clean(arg)
		if seen[name] {
			continue
		}
		seen[name] = true
		text, err := conffile.Disk(name)
		if errors.Is(err, conffile.ErrNotRegular) {
			return fmt.Errorf("read %s: %w; what a pipe gives is read by `natsentry lint -`", name, err)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := in.text(name, text, isYAML(name)); err != nil {
			return err
		}
	}
	return nil
}

// folder adds what is in a folder: configurations in files *.conf, and manifests.
func (in *lintInput) folder(dir string, seen map[string]bool) error {
	found, template, before := false, "", len(in.skipped)
	skip := func(name, why string, isTemplate bool) {
		in.skipped = append(in.skipped, skippedFile{name, why})
		if isTemplate {
			template = cmp.Or(template, name)
		}
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name := filepath.Clean(path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != dir && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir // also the hidden folders of mounted ConfigMaps
		case e.IsDir() || seen[name]:
			found = found || !e.IsDir() // it was named itself
		case filepath.Ext(path) == ".conf" || ofTemplate(path):
			text, err := conffile.Disk(path)
			f, foreign := form.Of(name, text)
			switch {
			case err == nil && foreign:
				skip(name, f.String(), f.Yields && form.Servers(name, text, conffile.Disk))
			case ofTemplate(path): // nothing is to be filled in, or it cannot be read
			case err == nil && !form.Servers(name, text, conffile.Disk):
				skip(name, "nothing in it is of nats-server; name the file to lint it all the same", false)
			default:
				found, seen[name] = true, true
				in.add(name, text, true) // an error shows when it is read again
			}
		case isYAML(path):
			text, err := conffile.Disk(path)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			if !manifest.Is(text) {
				if f, ok := form.OfYAML(text); ok && bytes.Contains(bytes.ToLower(text), []byte("nats")) || manifest.Template(text) {
					skip(name, f.String(), manifest.Template(text))
				}
				return nil
			}
			err = in.set.Add(name, text)
			if errors.Is(err, manifest.ErrTemplate) {
				skip(name, manifest.ErrTemplate.Error(), true)
				return nil
			}
			found, in.held, seen[name] = true, true, true
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !found && template != "":
		return fmt.Errorf("%s: there are only templates in it, like %s: render them first, and lint what comes of them", dir, template)
	case !found && len(in.skipped) == before:
		return fmt.Errorf("%s: there is no file *.conf in it, and no Kubernetes manifest", dir)
	}
	return nil
}
