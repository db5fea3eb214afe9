// Package oracle finds out whether a stranger gets into a running nats-server,
// by getting in: a client that exchanges messages, a leafnode, a cluster
// member and a gateway that really join, an MQTT session, a look at the
// monitoring.
//
// It exists to hold the auditor's verdicts against, so it shares nothing with
// it: neither the words of its model, nor its way of touching doors. It does
// what a touch must never do, and so is only for servers that a test started
// for it.
//
// A stranger has no credentials and no certificate, takes whatever certificate
// the server shows, tries plaintext and TLS, and knows what the server tells
// everybody: the names of its cluster and of its gateway.
package oracle
