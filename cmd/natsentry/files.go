package main

import (
	"errors"
	"fmt"
	"os"
	"path"
)

// file is one that is to be written. Its name may have a folder in front.
type file struct{ name, text string }

// noneExist tells of the first file that is there already.
func noneExist(dir string, files []file) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing is left to do when it fails
	for _, f := range files {
		if _, err := root.Lstat(f.name); err == nil {
			return overwrites(dir, f.name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("--dir: %w", err)
		}
	}
	return nil
}

func overwrites(dir, name string) error {
	return fmt.Errorf("%s has a file %s, and none is overwritten: name another directory with --dir, or move that file away", dir, name)
}

// writeNew writes files that do not exist yet into a directory, all or none.
// Files and folders are for their owner only.
func writeNew(dir string, files []file) (err error) {
	if err := noneExist(dir, files); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing is left to do when it fails
	var written []string
	defer func() {
		for i := len(written) - 1; err != nil && i >= 0; i-- {
			_ = root.Remove(written[i]) // the first error tells more
		}
	}()
	for _, f := range files {
		if folder := path.Dir(f.name); folder != "." {
			made, err := private(root, dir, folder)
			if err != nil {
				return err
			}
			if made {
				written = append(written, folder)
			}
		}
		out, err := root.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return overwrites(dir, f.name)
		} else if err != nil {
			return fmt.Errorf("--dir: %w", err)
		}
		written = append(written, f.name)
		_, err = out.WriteString(f.text)
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("--dir: %w", err)
		}
	}
	return nil
}

// private makes a folder for its owner only. One that is there already must be
// so.
func private(root *os.Root, dir, folder string) (made bool, err error) {
	err = root.Mkdir(folder, 0o700)
	if err == nil {
		return true, nil
	}
	info, serr := root.Stat(folder)
	switch {
	case !errors.Is(err, os.ErrExist), serr != nil, !info.IsDir():
		return false, fmt.Errorf("--dir: %w", err)
	case info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/':
		return false, fmt.Errorf("others may look into %s of %s, and secrets go there: chmod 700 it, or name another directory with --dir", folder, dir)
	}
	return false, nil
}
