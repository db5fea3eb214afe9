package conffile

import (
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
)

// permissions are those of a user in a configuration.
func permissions(p *server.Permissions) *posture.Permissions {
	if p == nil {
		return nil
	}
	return &posture.Permissions{Publish: subjects(p.Publish), Subscribe: subjects(p.Subscribe), Responses: p.Response != nil}
}

// subjects are those of one direction. A variable without a value may allow
// everything, and deny nothing.
func subjects(p *server.SubjectPermission) (out posture.Subjects) {
	if p == nil {
		return out
	}
	for _, s := range p.Allow {
		if strings.Contains(s, unsetPrefix) {
			s = ">"
		}
		out.Allow = append(out.Allow, s)
	}
	for _, s := range p.Deny {
		if !strings.Contains(s, unsetPrefix) {
			out.Deny = append(out.Deny, s)
		}
	}
	return out
}

// claimed are those of a user's JWT.
func claimed(p *jwt.Permissions) *posture.Permissions {
	return &posture.Permissions{
		Publish:   posture.Subjects{Allow: p.Pub.Allow, Deny: p.Pub.Deny},
		Subscribe: posture.Subjects{Allow: p.Sub.Allow, Deny: p.Sub.Deny},
		Responses: p.Resp != nil,
	}
}
