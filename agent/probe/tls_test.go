package probe_test

import (
	"crypto/tls"
	"io"
	"log"
)

const certificateRefused = "refused a peer without a client certificate"

// quiet is where a test's own server complains to.
var quiet = log.New(io.Discard, "", 0)

func requireCertificate() *tls.Config { return &tls.Config{ClientAuth: tls.RequireAnyClientCert} }
