package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// Bounds on what one answer may be. The largest honest answers are those of
// CONNZ (about 400 bytes a connection) and LEAFZ.
const (
	maxWire    = 16 << 20 // bytes of one answer as it comes
	maxDecoded = 32 << 20 // bytes of one answer when decompressed
	maxID      = 128      // bytes of an id or name; longer ones are forged
)

var (
	errTooLarge = errors.New("the answer is too large")
	errNoServer = errors.New("the answer names no server")
)

// identity is who an answer says it comes from.
type identity struct {
	id, name, cluster, version string
}

// decode reads one answer. T is the wire type of the endpoint.
func decode[T any](data []byte, encoding string) (identity, *T, error) {
	if len(data) > maxWire {
		return identity{}, nil, errTooLarge
	}
	data, err := inflate(data, encoding)
	if err != nil {
		return identity{}, nil, err
	}
	var env envelope[T]
	if err := json.Unmarshal(data, &env); err != nil {
		return identity{}, nil, fmt.Errorf("the answer is unreadable: %w", reword(err))
	}
	who := identity{id: env.Server.ID, name: printable(env.Server.Name), cluster: printable(env.Server.Cluster), version: printable(env.Server.Version)}
	body := env.Data
	if body == nil {
		body = env.Statsz
	}
	switch {
	case !plausibleID(who.id):
		return identity{}, nil, errNoServer
	case env.Error != nil:
		return who, nil, fmt.Errorf("the server answered with error %d: %s", env.Error.Code, printable(env.Error.Description))
	case body == nil:
		return who, nil, errors.New("the answer holds no data")
	}
	if who.name == "" {
		who.name = who.id
	}
	return who, body, nil
}

// plausibleID tells whether this may be the id of a server: it stands in
// subjects.
func plausibleID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsAny(id, " .*>\t\r\n")
}

// reword keeps the offending value out of a decoding error: it may be a
// secret.
func reword(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("field %s is of another type", printable(kind.Field))
	default:
		return errors.New("a field does not parse")
	}
}

func inflate(data []byte, encoding string) ([]byte, error) {
	switch encoding {
	case "":
		return data, nil
	case "snappy":
		out, err := io.ReadAll(io.LimitReader(s2.NewReader(bytes.NewReader(data)), maxDecoded+1))
		if err != nil {
			return nil, fmt.Errorf("the answer does not decompress: %w", err)
		}
		if len(out) > maxDecoded {
			return nil, errTooLarge
		}
		return out, nil
	default:
		return nil, fmt.Errorf("the answer has unknown encoding %q", printable(encoding))
	}
}

// printable removes what a terminal or a log could take for more than text,
// and cuts what is too long to be a name.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' ||
			r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return -1
		}
		return r
	}, s)
	if len(clean) > maxID {
		clean = strings.ToValidUTF8(clean[:maxID], "")
	}
	return clean
}

var jwtLike = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]+\.`)

// scrubUser removes secrets from authorized_user: servers before 2.10.28 put
// the raw token there, so that on those nothing is kept that could be one. A
// session that came in by a token has no issuer.
func scrubUser(c *connInfo, version string) string {
	user := c.AuthorizedUser
	switch {
	case user == "":
		return ""
	case jwtLike.MatchString(user):
		return posture.Redacted
	case posture.IsHiddenUser(user, ""), bool(c.IssuerKey) && nkeys.IsValidPublicUserKey(user):
		return user
	case !release.RedactsTokens.Holds(version):
		return posture.Redacted
	default:
		return printable(user)
	}
}

// signs is what else an answer tells of a session's login. A server lists a
// client by the user that he claims while it makes up its mind, which takes up to
// twice its time for that (nats-server: once until CONNECT came, and once for a
// callout). Who has sent or subscribed to something was let in.
func signs(c *connInfo, s *posture.Server, now time.Time) posture.Signs {
	const least = 10 * time.Second
	return posture.Signs{
		Waits:   c.InMsgs == 0 && c.Subs == 0 && now.Sub(c.Start) < max(least, 2*s.AuthTimeout+time.Second),
		Token:   c.AuthorizedUser == posture.Redacted && release.RedactsTokens.Holds(s.Version),
		Hidden:  c.AuthorizedUser != "" && !release.RedactsTokens.Holds(s.Version) && scrubUser(c, s.Version) == posture.Redacted,
		UserKey: nkeys.IsValidPublicUserKey(c.AuthorizedUser),
		Issuer:  bool(c.IssuerKey), Subject: c.TLSPeerCerts.subject,
	}
}
