package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

var releaseVersion = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// Linked is the release of nats-server that this module is built with: the one
// that runs embedded.
const Linked = "v" + server.VERSION

// building lets one build of this process run at a time: each takes all cores.
var building sync.Mutex

// Binary returns the path of a real nats-server of a released version, like
// "v2.10.29". See [Install].
func Binary(ctx context.Context, version string) (string, error) {
	return Install(ctx, "github.com/nats-io/nats-server/v2", "nats-server", version)
}

// Install returns the path of the command of that name in a Go package of a
// released version. The first call for a version builds it with the go
// command from the Go module proxy, which takes from ten seconds to a minute;
// it is kept in the user's cache folder, and later calls only look there.
// Processes that build the same version at the same time do not disturb each
// other.
func Install(ctx context.Context, pkg, name, version string) (string, error) {
	if !releaseVersion.MatchString(version) {
		return "", fmt.Errorf("%s %q: not a release version like v2.10.29", name, version)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, version, err)
	}
	dir := filepath.Join(cache, "natsentry", name, version)
	binary := filepath.Join(dir, name)
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}

	building.Lock()
	defer building.Unlock()
	if isFile(binary) {
		return binary, nil
	}
	if err := build(ctx, pkg, version, dir, binary); err != nil {
		return "", fmt.Errorf("%s %s: %w", name, version, err)
	}
	return binary, nil
}

// build fills dir with the executable in one step: it is complete or absent.
func build(ctx context.Context, pkg, version, dir, binary string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	if err := install(ctx, tmp, pkg, version, filepath.Base(binary)); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if isFile(binary) {
			return nil // another process was faster
		}
		return errors.Join(err, errors.New("move the build into place"))
	}
	return nil
}

// repository is the module of a package, for those that this is used for.
var repository = regexp.MustCompile(`^github\.com/[^/]+/[^/]+(?:/v\d+)?`)

// install puts the executable into dir. "go install" asks the proxy for all
// versions of the module, to warn of a deprecated one. A proxy that has the
// version and does not list it is asked by a module that requires just that.
func install(ctx context.Context, dir, pkg, version, name string) error {
	run := func(folder string, args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(),
			"GOBIN="+dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0",
			"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	refused := run(dir, "install", pkg+"@"+version)
	if refused == nil {
		return nil
	}
	module, err := os.MkdirTemp("", "natsentry-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(module)
	text := fmt.Sprintf("module build\n\ngo 1.25\n\nrequire %s %s\n", repository.FindString(pkg), version)
	if err := os.WriteFile(filepath.Join(module, "go.mod"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := run(module, "build", "-mod=mod", "-o", filepath.Join(dir, name), pkg); err != nil {
		return errors.Join(refused, err)
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
