package probe_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestMonitorBehindSomethingElse: a proxy stands in front of the monitoring
// listener of a real server. A verdict needs the id of that server; whatever
// answers without it decides nothing, not even when it asks for credentials.
func TestMonitorBehindSomethingElse(t *testing.T) {
	t.Parallel()
	const monitor = "http: \"{{addr \"http\"}}\"\n"
	s, other := start(t, fleet.Spec{Config: monitor}), start(t, fleet.Spec{Config: monitor})
	through := func(s *fleet.Server) http.Handler {
		return httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Addr("http")})
	}
	status := func(code int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://login.example.net/")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
	varz := func() string {
		resp, err := http.Get("http://" + s.Addr("http") + "/varz")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}()
	for _, c := range []struct {
		name     string
		handler  http.Handler
		want     posture.Access
		says     string
		nameless bool
	}{
		{"passed on", through(s), posture.Open, "", false},
		{"401", status(http.StatusUnauthorized, "no"), posture.Unknown, "401 Unauthorized, without the id", true},
		{"403", status(http.StatusForbidden, "no"), posture.Unknown, "403 Forbidden, without the id", true},
		{"401 with the answer of the server", status(http.StatusUnauthorized, varz), posture.Unknown, "401 Unauthorized, without the id", true},
		{"404", status(http.StatusNotFound, ""), posture.Unknown, "404 Not Found, without the id", true},
		{"302", status(http.StatusFound, ""), posture.Unknown, "302 Found, without the id", true},
		{"500", status(http.StatusInternalServerError, varz), posture.Unknown, "500 Internal Server Error, without the id", true},
		{"a login page", status(http.StatusOK, "<html><form>Password</form></html>"), posture.Unknown, "200 OK, without the id", true},
		{"JSON of something else", status(http.StatusOK, `{"status":"ok"}`), posture.Unknown, "200 OK, without the id", true},
		{"another server", through(other), posture.Unknown, "another server answers", false},
		{"an answer that is cut off", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = io.WriteString(w, varz[:len(varz)/2])
		}), posture.Unknown, "the answer ends early", true},
		{"half of an answer", status(http.StatusOK, varz[:len(varz)/2]), posture.Unknown, "200 OK, without the id", true},
	} {
		proxy := httptest.NewServer(c.handler)
		address := strings.TrimPrefix(proxy.URL, "http://")
		got := (&probe.Prober{}).Touch(t.Context(), probe.Target{Door: posture.Monitor, Address: address, ServerID: s.ID(), TLS: posture.No})
		if got.Access != c.want || !strings.Contains(got.Reason, c.says) || got.Nameless != c.nameless {
			t.Errorf("%s: %s, %q, nameless %t", c.name, got.Access, got.Reason, got.Nameless)
		}
		if c.want == posture.Unknown && got.Answer != "" {
			t.Errorf("%s: it decides nothing, and is said to have answered %q", c.name, got.Answer)
		}
		if c.nameless {
			found := (&probe.Prober{}).Identify(t.Context(), address)
			if len(found) != 1 || found[0].Access != posture.Unknown || !strings.Contains(found[0].Reason, "it speaks HTTP: GET /varz: ") {
				t.Errorf("%s: taken for %+v", c.name, found)
			}
		}
		proxy.Close()
	}

	// Monitoring over TLS never refuses a client for want of a certificate.
	proxy := httptest.NewUnstartedServer(status(http.StatusOK, varz))
	proxy.TLS = requireCertificate()
	proxy.Config.ErrorLog = quiet
	proxy.StartTLS()
	defer proxy.Close()
	got := (&probe.Prober{}).Touch(t.Context(), probe.Target{Door: posture.Monitor, Address: strings.TrimPrefix(proxy.URL, "https://"), ServerID: s.ID(), TLS: posture.Yes})
	if got.Access != posture.Unknown || !got.CertAsked || !got.Nameless || !strings.Contains(got.Reason, certificateRefused) {
		t.Errorf("a proxy that wants a certificate: %+v", got)
	}
}
