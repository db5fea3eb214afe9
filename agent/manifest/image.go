package manifest

import (
	"path"
	"regexp"
	"strings"
)

var release = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-(?:RC|rc|beta|preview|alpha|dev)[.0-9]*\d)?)(?:-[a-z].*)?$`)

// isServer tells whether an image is one of nats-server, and which release it has;
// "" is one that its name does not tell.
func isServer(image string) (ok bool, version string) {
	name, _, _ := strings.Cut(image, "@")
	last := path.Base(name)
	last, tag, _ := strings.Cut(last, ":")
	if last != "nats" && last != "nats-server" {
		return false, ""
	}
	if m := release.FindStringSubmatch(tag); m != nil {
		version = m[1]
	}
	return true, version
}
