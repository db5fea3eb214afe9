package manifest

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/natsentry/natsentry/agent/posture"
)

// image is what the name of an image says about the container.
type image struct {
	server  bool   // it holds nats-server
	version string // its release, "" where the name does not say
	start   start
	config  string // the file that it reads without arguments, "" where the name does not say
	why     string // and why it does not
}

// start is how an image starts nats-server.
type start uint8

const (
	// unknownStart may bring flags and a configuration file of its own.
	unknownStart start = iota
	// byScript is the entrypoint of the official Alpine images: a script that puts
	// nats-server before arguments of which the first is a flag, and otherwise runs
	// the arguments as they are. There is no configuration file without the -c of
	// the image's CMD, which arguments replace.
	byScript
	// byItself is the entrypoint of the other official images: nats-server.
	byItself
	// official is one of the two, and the name does not say which one.
	official
)

// The files of the official images. The second one is named without a directory,
// and so read from the working directory, which is / (C:\ in images for Windows).
const (
	alpineFile  = "/etc/nats/nats-server.conf"
	scratchFile = "nats-server.conf"
)

// imageFile says what the file in the official images does. It is the same in
// all variants and releases.
const imageFile = `port: 4222
http_port: 8222
cluster { name: my_cluster, port: 6222, authorization { user: ruser, password: T0pS3cr3t, timeout: 2 } }
`

var (
	release = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-(?:RC|rc|beta|preview|alpha|dev)[.0-9]*\d)?)(?:-[a-z].*)?$`)
	// officialTag takes apart the tags of the official images: a release or a part of
	// it, and a variant.
	officialTag = regexp.MustCompile(`^(?:(\d+(?:\.\d+){0,2})(?:-(?:RC|rc|beta|preview)[.0-9]*\d)?|latest)?-?(alpine[\d.]*|scratch|linux|(?:nanoserver|windowsservercore)(?:-[a-z0-9]+)?)?$`)
	// officialNames are the image on Docker Hub, and nothing else: an image of that
	// name in another registry may be a copy of it, and may be another one.
	officialNames = []string{"nats", "library/nats", "docker.io/nats", "docker.io/library/nats", "index.docker.io/library/nats", "registry-1.docker.io/library/nats"}
)

// imageOf reads the name of an image.
func imageOf(ref string) image {
	name, _, _ := strings.Cut(ref, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	if last := path.Base(name); last != "nats" && last != "nats-server" {
		return image{}
	}
	i := image{server: true}
	if m := release.FindStringSubmatch(tag); m != nil {
		i.version = m[1]
	}
	if !slices.Contains(officialNames, name) {
		i.why = fmt.Sprintf("%.60q is not the official image: its entrypoint may bring a configuration file and flags, "+
			"which are not in the manifests", name)
		return i
	}
	i.start = official
	m := officialTag.FindStringSubmatch(tag)
	switch {
	case tag == "" && name != ref:
		i.why = "a digest does not say which variant of the image it is, and the variants read different files"
	case m == nil:
		i.why = fmt.Sprintf("the tag %.60q does not say which variant of the image it is, and the variants read different files", tag)
	case m[1] != "" && semver.Compare("v"+cmp.Or(i.version, m[1]), "v2.1.7") < 0 && m[1] != "2" && m[1] != "2.1":
		i.why = fmt.Sprintf("images before 2.1.7, like %.60q, start in other ways", tag)
	case strings.HasPrefix(m[2], "alpine"):
		i.start, i.config = byScript, alpineFile
	default:
		i.start, i.config = byItself, scratchFile
	}
	return i
}

// mount is the file that the image brings. It is seen where no volume is mounted
// over it, so it comes after all others.
func (i *image) mount(container posture.Place) mount {
	name := path.Base(i.config)
	return mount{
		path: path.Join("/", i.config), sub: name,
		volume: &volume{files: map[string]*datum{name: {bytes: []byte(imageFile), key: container}}},
	}
}
