// Package conffile reads nats-server configuration files as nats-server does,
// and with none of the side effects: no directory is made, no certificate or
// operator file is needed, nothing is listened on, looked up or logged.
package conffile
