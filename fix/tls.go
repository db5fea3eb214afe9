package fix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path"
	"time"
)

// Certificates are what the mode tls-map takes: the server's, its CA, and those
// of who may come in.
type Certificates struct {
	// Paths of the server's certificate, key and CA, as its configuration
	// names them. A bundle that makes new ones does not use them.
	Cert, Key, CA string
	App           Identity
	System        *Identity // nil: nobody of the system account

	new       bool
	authority *Authority
	server    Identity
}

// Identity is a certificate and its key, as PEM. It prints as its subject.
type Identity struct {
	Subject string // as nats-server writes it
	cert    string
	key     string
}

// String does not tell the key.
func (i Identity) String() string { return i.Subject }

// GoString does not tell the key.
func (i Identity) GoString() string { return i.Subject }

// ReadIdentity reads a certificate and its key.
func ReadIdentity(cert, key []byte) (Identity, error) {
	block, _ := pem.Decode(cert)
	if block == nil || block.Type != "CERTIFICATE" {
		return Identity{}, errors.New("there is no PEM certificate in it")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Identity{}, err
	}
	subject := parsed.Subject.ToRDNSequence().String()
	if subject == "" {
		return Identity{}, errors.New("the certificate has no subject")
	}
	return Identity{subject, string(cert), string(key)}, nil
}

// PEM is the certificate and its key.
func (i Identity) PEM() (cert, key string) { return i.cert, i.key }

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	pem  string
	key  *ecdsa.PrivateKey
	ends time.Time
}

// NewAuthority makes a CA.
func NewAuthority(now time.Time, lasts time.Duration) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := template("natsentry CA "+rand.Text()[:8], now, now.Add(lasts))
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	template.MaxPathLenZero = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, asPEM("CERTIFICATE", der), key, now.Add(lasts)}, err
}

// skew is by how much clocks may differ.
const skew = 5 * time.Minute

func template(name string, now, ends time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-skew), NotAfter: ends,
	}, err
}

// PEM is the certificate of the CA.
func (a *Authority) PEM() string { return a.pem }

// Issue signs a certificate: a server's, if it is for hosts, else a client's.
func (a *Authority) Issue(name string, hosts ...string) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	template, err := template(name, a.cert.NotBefore.Add(skew), a.ends)
	if err != nil {
		return Identity{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Identity{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Identity{}, err
	}
	return ReadIdentity([]byte(asPEM("CERTIFICATE", der)), []byte(asPEM("PRIVATE KEY", secret)))
}

func asPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

const tenYears = 10 * 365 * 24 * time.Hour

func (p *Plan) certificateLife() time.Duration {
	if p.Lasts > 0 {
		return p.Lasts
	}
	return tenYears
}

// newCertificates makes a CA, and everything that it signs.
func (b *builder) newCertificates() (*Certificates, error) {
	a, err := NewAuthority(b.plan.Now, b.plan.certificateLife())
	if err != nil {
		return nil, err
	}
	c := &Certificates{new: true, authority: a}
	hosts := append([]string{"localhost", "127.0.0.1"}, b.plan.Hosts...)
	if c.server, err = a.Issue("nats-server", hosts...); err != nil {
		return nil, err
	}
	if c.App, err = a.Issue(appUser); err != nil {
		return nil, err
	}
	if !b.plan.KeepAccounts {
		system, err := a.Issue(systemUser)
		if err != nil {
			return nil, err
		}
		c.System = &system
	}
	caKey, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	b.keep("ca-key.pem", asPEM("PRIVATE KEY", caKey))
	b.keep("app.pem", c.App.cert)
	b.keep("app-key.pem", c.App.key)
	if c.System != nil {
		b.keep("sys.pem", c.System.cert)
		b.keep("sys-key.pem", c.System.key)
	}
	return c, nil
}

// Names of the files that go to the server.
const (
	tlsDir     = "tls"
	caFile     = "ca.pem"
	certFile   = "server.pem"
	keyFile    = "server-key.pem"
	tlsTimeout = 5 // seconds; the default of 2 is short for a busy server
)

func (c *Certificates) files() []File {
	return []File{
		{Name: tlsDir + "/" + caFile, Text: c.authority.pem},
		{Name: tlsDir + "/" + certFile, Text: c.server.cert},
		{Name: tlsDir + "/" + keyFile, Text: c.server.key, Secret: true},
	}
}

// block is the tls block of a server.
func (c *Certificates) block(at Place, more string) string {
	cert, key, ca := c.Cert, c.Key, c.CA
	if c.new {
		cert, key, ca = path.Join(at.TLS, certFile), path.Join(at.TLS, keyFile), path.Join(at.TLS, caFile)
	}
	return fmt.Sprintf("tls {\n  cert_file: %q\n  key_file: %q\n  ca_file: %q\n  timeout: %d\n  %s\n}\n", cert, key, ca, tlsTimeout, more)
}

// openBlock is that of a server that lets strangers in.
func (c *Certificates) openBlock(at Place) string {
	return c.block(at, "verify: true") + "allow_non_tls: true\n"
}

// Authority is the CA of a bundle that made one, else nil.
func (b *Bundle) Authority() *Authority {
	if b.tls == nil {
		return nil
	}
	return b.tls.authority
}

func addTLSMap(b *builder) (err error) {
	if b.tls = b.plan.Certificates; b.tls == nil {
		if b.tls, err = b.newCertificates(); err != nil {
			return err
		}
	}
	entry := func(l Login, id Identity) string {
		l.By, l.Subject, l.cert, l.key = ByCertificate, id.Subject, id.cert, id.key
		if b.tls.new {
			l.File = SecretsDir + "/" + l.Name + ".pem"
		}
		b.Logins = append(b.Logins, l)
		return fmt.Sprintf("user: %q, allowed_connection_types: [ STANDARD ]", id.Subject)
	}
	names := b.names()
	app := entry(names[0], b.tls.App)
	system := ""
	if b.tls.System != nil && len(names) > 1 {
		system = b.systemAccount(entry(names[1], *b.tls.System))
	}
	// Before nats-server 2.12.14, and on 2.14.0 to 2.14.3, a name alone would do
	// on a port that maps no certificates: so they may come through this one only.
	text := "# Users are named by the subjects of their certificates, and have no passwords. STANDARD\n# is the client port: on other ports, some servers would take the name alone.\n" + b.clients("", app) + system
	b.put(TLSMap, func(at Place) string {
		return b.tls.block(at, "verify_and_map: true") + "allow_non_tls: false\n\n" + text
	})
	return nil
}
