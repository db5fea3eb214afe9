package collect

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
)

// maxUserJWT bounds a user's JWT. It comes in one line of protocol, of which
// servers accept 4 KiB unless they are told otherwise.
const maxUserJWT = 64 << 10

// userClaim reads what a user's JWT allows; nil when it is none. The signature is
// not verified: the server did that when the client came, and what it answers is
// taken for its word in any case.
func userClaim(token string) *posture.UserClaim {
	if len(token) > maxUserJWT {
		return nil
	}
	chunks := strings.Split(token, ".")
	if len(chunks) != 3 {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(chunks[1])
	if err != nil {
		return nil
	}
	var u jwt.UserClaims
	if json.Unmarshal(data, &u) != nil {
		return nil
	}
	if u.Version < 2 {
		old, err := jwt.DecodeUserClaims(token) // of version 1, laid out differently
		if err != nil {
			return nil
		}
		u = *old
	} else if u.Type != jwt.UserClaim {
		return nil
	}
	account := u.IssuerAccount
	if account == "" {
		account = u.Issuer
	}
	if !nkeys.IsValidPublicUserKey(u.Subject) || !nkeys.IsValidPublicAccountKey(account) || !nkeys.IsValidPublicAccountKey(u.Issuer) {
		return nil
	}
	publish, subscribe := open(&u.Permissions)
	return &posture.UserClaim{
		Key: u.Subject, Name: printable(u.Name), Account: account, Issuer: u.Issuer,
		Issued: unixTime(u.IssuedAt), Expires: unixTime(u.Expires), Bearer: u.BearerToken,
		Scoped:   u.IssuerAccount != "" && u.HasEmptyPermissions(),
		OpenPub:  publish,
		OpenSub:  subscribe,
		Defaults: emptyPermissions(&u.Permissions),
		Bound:    bound(&u.UserPermissionLimits),
		Sources:  boundToAddresses(u.Src),
	}
}

// bound reports whether limits shut somebody out who has the credentials: an
// address, a time or a kind of connection.
func bound(l *jwt.UserPermissionLimits) bool {
	return boundToAddresses(l.Src) || boundToTimes(l.Times) || boundToConnections(l.AllowedConnectionTypes)
}

// boundToAddresses: who may come from all addresses of one family may come from
// anywhere. A server reads no further than a range that is none.
func boundToAddresses(list jwt.CIDRList) bool {
	if len(list) == 0 {
		return false
	}
	var ranges []netip.Prefix
	for _, cidr := range list {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			break
		}
		ranges = append(ranges, p.Masked())
	}
	return !wholeOf(netip.IPv4Unspecified(), ranges) && !wholeOf(netip.IPv6Unspecified(), ranges)
}

// wholeOf reports whether ranges leave out no address of a family, whose first
// one is given.
func wholeOf(first netip.Addr, ranges []netip.Prefix) bool {
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for next, i := first, 0; i < len(ranges); i++ {
		switch r := ranges[i]; {
		case r.Addr().BitLen() != first.BitLen() || r.Addr().Less(next):
		case r.Addr() != next:
			return false
		default:
			if next = lastOf(r).Next(); !next.IsValid() {
				return true
			}
		}
	}
	return false
}

// lastOf is the last address of a range.
func lastOf(r netip.Prefix) netip.Addr {
	bytes := r.Addr().AsSlice()
	for bit := r.Bits(); bit < r.Addr().BitLen(); bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// spareTime is how much of a day times may leave out and still be all day: what
// is written as 23:59 or 23:59:59.
const spareTime = time.Minute

// boundToTimes reports whether times of a day leave some of it out.
func boundToTimes(times []jwt.TimeRange) bool {
	if len(times) == 0 {
		return false
	}
	const day = 24 * time.Hour
	type span struct{ from, to time.Duration }
	var spans []span
	for _, t := range times {
		switch from, to := timeOfDay(t.Start), timeOfDay(t.End); {
		case from < 0 || to < 0 || from == to: // a server admits nobody then
		case from < to:
			spans = append(spans, span{from, to})
		default: // over midnight
			spans = append(spans, span{from, day}, span{0, to})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var until, left time.Duration
	for _, s := range spans {
		left += max(0, s.from-until)
		until = max(until, s.to)
	}
	return left+day-until > spareTime
}

// timeOfDay is a time since midnight; negative when it is none.
func timeOfDay(text string) time.Duration {
	t, err := time.Parse(time.TimeOnly, text)
	if err != nil {
		return -1
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
}

// connections are the kinds of connection that come over a network.
var connections = []string{
	jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket, jwt.ConnectionTypeLeafnode, jwt.ConnectionTypeLeafnodeWS, jwt.ConnectionTypeMqtt, jwt.ConnectionTypeMqttWS,
}

// boundToConnections reports whether a kind of connection is left out.
func boundToConnections(allowed jwt.StringList) bool {
	return len(allowed) > 0 && slices.ContainsFunc(connections, func(kind string) bool {
		return !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, kind) })
	})
}
