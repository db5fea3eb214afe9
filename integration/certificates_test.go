package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority signs the certificates of one test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{key: key, cert: must(x509.ParseCertificate(der)), pem: asPEM("CERTIFICATE", der)}
}

// issue signs a certificate for 127.0.0.1 that ends after a while.
func (a *authority) issue(name string, left time.Duration) (cert, key string) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	end := time.Now().Add(left)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: end.Add(-400 * 24 * time.Hour), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key))
	return asPEM("CERTIFICATE", der), asPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(k)))
}

// files are what a server with TLS has beside its configuration.
func (a *authority) files(left time.Duration) map[string]string {
	cert, key := a.issue("server", left)
	return map[string]string{"ca.pem": a.pem, "cert.pem": cert, "key.pem": key}
}

// client is the configuration of somebody with a certificate of this CA.
func (a *authority) client(t testing.TB, name string) *tls.Config {
	t.Helper()
	cert, key := a.issue(name, time.Hour)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{must(tls.X509KeyPair([]byte(cert), []byte(key)))}}
}

func asPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// tlsBlock is a tls block of the files, with more settings.
func tlsBlock(more string) string {
	return `
tls {
  cert_file: "{{file "cert.pem"}}"
  key_file: "{{file "key.pem"}}"
  ca_file: "{{file "ca.pem"}}"
  ` + more + "\n}\n"
}
