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
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
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
}

// renderFirst is said of what is neither a configuration nor a Kubernetes object.
const renderFirst = "to lint a Helm chart, lint what it renders: helm template ... | natsentry lint -"

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
	switch {
	case manifest.Is(text):
		in.held = true
		return in.set.Add(name, text)
	case manifest.Template(text) && (yaml || bytes.Contains(text, []byte("apiVersion"))):
		return fmt.Errorf("%s: %w", name, manifest.ErrTemplate)
	case yaml:
		return fmt.Errorf("%s: it holds no Kubernetes objects; %s", name, renderFirst)
	case manifest.LooksYAML(text):
		if _, err := confsyntax.Parse(name, text, confsyntax.Surroundings{Read: conffile.Disk, Env: in.env}); err != nil {
			return fmt.Errorf("%s: it looks like YAML without Kubernetes objects, and is no configuration; %s", name, renderFirst)
		}
	}
	in.add(name, text, false)
	return nil
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

// folder adds what is in a folder: files *.conf, and manifests.
func (in *lintInput) folder(dir string, seen map[string]bool) error {
	found, templates := false, 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name := filepath.Clean(path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != dir && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir // also the hidden folders of mounted ConfigMaps
		case e.IsDir():
		case filepath.Ext(path) == ".conf":
			found = true
			if !seen[name] {
				seen[name] = true
				in.add(name, nil, true)
			}
		case isYAML(path):
			text, err := conffile.Disk(path)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			if !manifest.Is(text) || seen[name] {
				if manifest.Template(text) {
					templates++
				}
				return nil
			}
			err = in.set.Add(name, text)
			if errors.Is(err, manifest.ErrTemplate) {
				templates++
				in.notes = append(in.notes, err.Error())
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
	case !found && templates > 0:
		return fmt.Errorf("%s: there are only Helm templates in it; %s", dir, renderFirst)
	case !found:
		return fmt.Errorf("%s: there is no file *.conf in it, and no Kubernetes manifest", dir)
	}
	return nil
}
