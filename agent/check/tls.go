package check

import (
	"cmp"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

var tls001 = &Check{
	ID: "TLS_001", Aliases: []string{"SERVER_008"}, Severity: Warning,
	Title: "certificate expires",
	Doc: "The listener's certificate ends soon: critical below 7 days, a warning below 30. After that nobody who verifies it gets in. " +
		"Servers before 2.11.12, 2.12.4 and 2.14.0 do not show it.",
	Needs: posture.Varz, Since: release.ShowsCertExpiry.Since,
	Doors: []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode, posture.Route, posture.Gateway},
	Door: func(policy Policy, snap *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		if d.TLS.NotAfter.IsZero() {
			if d.TLS.On == posture.Yes {
				return unknown("the listener has TLS, and the server does not show its certificate's end")
			}
			return Verdict{Outcome: NotApplicable, Summary: "no certificate on this listener"}
		}
		left := d.TLS.NotAfter.Sub(snap.Taken)
		if left > policy.CertWarning {
			return pass("more than %s left", days(policy.CertWarning))
		}
		end := d.TLS.NotAfter.UTC().Format(time.RFC3339)
		v := fail("", "the certificate of %s's %s port %s expires on %s", s.Name, d.Kind, d.Address(), end)
		if left <= 0 {
			v = fail("expired", "the certificate of %s's %s port %s expired on %s", s.Name, d.Kind, d.Address(), end)
		}
		if left <= policy.CertCritical {
			v = v.with(Critical)
		}
		return v.with(NoSeverity, reported("VARZ tls_cert_not_after", end))
	},
	Remedy: Remedy{Text: "Put the new certificate in place and reload. Connected clients stay; new handshakes see the new certificate.", Reload: true},
	Refs:   []string{refTLS},
}

// said is what a server says, or its configuration.
func said(s *posture.Server, source, value string, keys ...string) posture.Evidence {
	if s.Config == nil {
		return reported(source, value)
	}
	return s.Config.At(keys...).Says(posture.Unknown, keys[0]+" makes it so")
}

// undecidedTLS is the outcome where a configuration does not decide about the TLS
// of a listener.
func undecidedTLS(d *posture.Door) Verdict {
	if d.Reason != "" {
		return unknown("%s", d.Reason)
	}
	return unknown("a variable without a value here decides about the TLS of this listener")
}

func days(d time.Duration) string { return count(int(d/(24*time.Hour)), "day") }

var tls002 = &Check{
	Sight: Both,
	ID:    "TLS_002", Severity: Warning,
	Title: "TLS is optional",
	Doc:   "allow_non_tls lets plaintext clients in beside TLS ones: credentials and messages cross the wire in clear, and verify does not hold for them. VARZ shows it as a certificate without tls_required.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Client},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		switch {
		case d.TLS.Required == posture.Yes:
			return pass("TLS is required")
		case s.Config != nil && (d.TLS.On == posture.Unseen || d.TLS.Required == posture.Unseen):
			return undecidedTLS(d)
		case d.TLS.On == posture.Yes:
			return fail(posture.CauseAllowNonTLS, "%s lets plaintext clients in on its TLS port %s", s.Name, d.Address()).
				with(NoSeverity, said(s, "VARZ tls_required", "absent, with a certificate configured", "allow_non_tls"))
		case d.TLS.On == posture.Unseen:
			return unknown("version %s does not show whether TLS is configured beside plaintext", s.Version)
		default:
			return Verdict{Outcome: NotApplicable, Summary: "no TLS on this listener"}
		}
	},
	Remedy: Remedy{Text: "Remove allow_non_tls and restart: a reload does not apply it. Plaintext clients do not come back after the restart.", Config: "# remove: allow_non_tls: true\n"},
	Refs:   []string{refTLS},
}

var tls003 = &Check{
	Sight: Both,
	ID:    "TLS_003", Severity: Warning,
	Title: "certificates are verified, but nobody is named by them",
	Doc: "verify without a mapping encrypts and checks the CA, and gives no NATS identity: every certificate of the CA is the same user. " +
		"VARZ shows it when no authentication is on; a server with users may map or not, and that stays unknown.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Client},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		switch {
		case d.TLS.Verify == posture.No:
			return Verdict{Outcome: NotApplicable, Summary: "no client certificates are asked for"}
		case d.TLS.Verify == posture.Unseen && s.Config != nil:
			return undecidedTLS(d)
		case s.Config != nil && d.TLSMap:
			return pass("certificates are mapped to users")
		case s.Config != nil && s.AuthRequired == posture.Yes:
			return pass("credentials are asked for beside the certificate")
		case d.TLS.Verify == posture.Yes && s.AuthRequired == posture.No:
			return fail(posture.CauseCertificateOnly, "%s verifies client certificates on %s and names nobody by them", s.Name, d.Address()).
				with(NoSeverity, said(s, "VARZ tls_verify, auth_required", "true, absent", "tls.verify", "tls"))
		default:
			return unknown("$SYS does not show whether certificates are mapped to users")
		}
	},
	Remedy: Remedy{
		Text:   "Map certificates to users and restart: a reload that turns the mapping on is refused. Clients whose certificate matches no user do not come back after the restart.",
		Config: "tls {\n  # ... cert_file, key_file, ca_file as they are\n  verify_and_map: true\n}\n",
	},
	Refs: []string{refTLS},
}

var tls004 = &Check{
	Claims: true,
	ID:     "TLS_004", Severity: Warning,
	Title: "secrets cross the network in clear",
	Doc: "A client that is connected without TLS, and not from its server's own machine, has sent its password over the network in clear; critical for tokens and for JWTs of bearers, which are all that it takes to be let in. " +
		"A proxy that ends TLS in front of the server looks the same, and leaves the stretch behind it in clear.",
	Needs: everyoneInputs,
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		severity := NoSeverity
		bare := pick(s, func(m *Member) string {
			if m.Encrypted != posture.No || !m.host().IsValid() || m.host().IsLoopback() {
				return ""
			}
			switch m.Login {
			case posture.LoginPassword:
				if m.guest() {
					return ""
				}
				return m.User
			case posture.LoginToken:
				severity = Critical
				return "a token"
			case posture.LoginBearer:
				severity = Critical
				return "the JWT of bearer " + m.User
			default:
				return ""
			}
		})
		switch {
		case len(bare) > 0:
			return show(fail("", "%s on %s gave a secret in clear", sessions(bare), s.Name).with(severity), bare, nothingMore)
		case len(s.Everyone.List) < s.Everyone.Total:
			return unknown("only %d of %d sessions were looked at", len(s.Everyone.List), s.Everyone.Total)
		default:
			return pass("nobody who is inside gave a password or a token over the network in clear")
		}
	},
	Remedy: Remedy{
		Text:   "Give the port a tls block and reload; clients that are connected stay, and new ones must speak TLS. Then change the secrets that were sent in clear: whoever was on the way has them.",
		Config: "tls {\n  cert_file: \"server.pem\"\n  key_file: \"server-key.pem\"\n}\n", Reload: true,
	},
	Refs: []string{refTLS},
}

var tls005 = &Check{
	Sight: Both,
	ID:    "TLS_005", Severity: Warning,
	Title: "websocket without TLS",
	Doc:   "no_tls: credentials and messages of websocket clients cross the wire in clear, unless something in front of the server ends TLS. On a loopback listener that is taken for granted.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Websocket},
	Door: func(policy Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		switch {
		case d.TLS.On == posture.Yes:
			return pass("TLS is on")
		case d.TLS.On == posture.Unseen && s.Config != nil:
			return undecidedTLS(d)
		case d.TLS.On == posture.Unseen:
			return unknown("whether the listener has TLS was not seen")
		case d.Loopback() && !policy.LoopbackExposed:
			return pass("it listens on loopback")
		default:
			return fail("", "%s speaks plaintext on its websocket port %s", s.Name, d.Address()).
				with(NoSeverity, said(s, "VARZ websocket.no_tls", "true", "websocket.no_tls", "websocket"))
		}
	},
	Remedy: Remedy{
		Text:   "Give the websocket block a tls section and restart: a reload does not apply it. Clients must use wss:// afterwards. If a proxy ends TLS, bind the listener to loopback.",
		Config: "websocket {\n  tls { cert_file: \"server.pem\", key_file: \"server-key.pem\" }\n}\n",
	},
	Refs: []string{refWebsocket},
}

var tls007 = &Check{
	Sight: Both,
	ID:    "TLS_007", Severity: Warning,
	Title: "a page of any site can log in with a visitor's cookie",
	Doc: "The websocket listener takes credentials from cookies, which a browser sends along whichever page opens the connection, and it does not look at the page's origin: a page of another site that a visitor opens logs in as that visitor. " +
		"A cookie with SameSite=Strict or Lax is not sent from there, and nats-server does not see whether a cookie is one. VARZ shows jwt_cookie and no other cookie, so a running server without it stays unknown.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Websocket},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		unset := ""
		if s.Config != nil {
			for _, key := range []string{"jwt_cookie", "user_cookie", "pass_cookie", "token_cookie", "same_origin", "allowed_origins"} {
				unset = cmp.Or(unset, s.Config.UnsetUnder("websocket."+key))
			}
		}
		switch {
		case unset != "":
			return unknown("%s is a variable without a value here", unset)
		case d.AnyOrigin == posture.No:
			return pass("pages of other sites are rejected")
		case d.AnyOrigin == posture.Unseen:
			return unknown("whether pages of other sites are rejected was not seen")
		case len(d.Cookies) > 0:
			keys := strings.Join(d.Cookies, ", ")
			return fail("", "the websocket listener %s of %s takes credentials from cookies (%s) and accepts pages of any site", d.Address(), s.Name, keys).
				with(NoSeverity, said(s, "VARZ websocket."+d.Cookies[0], "set; same_origin and allowed_origins are not", "websocket."+d.Cookies[0], "websocket"))
		case s.Config == nil:
			return unknown("VARZ does not show user_cookie, pass_cookie and token_cookie")
		default:
			return pass("no credentials are taken from cookies")
		}
	},
	Remedy: Remedy{
		Text:   "Set same_origin where your pages come from the same host and port as the websocket listener, and allowed_origins with the addresses of your pages otherwise, and restart: a reload does not apply it. Clients that are no browsers send no origin and are not affected.",
		Config: "websocket {\n  allowed_origins: [ \"https://app.example.com\" ]\n}\n",
	},
	Refs: []string{refWebsocket},
}
