// Package proof tries a configuration before anybody trusts it.
//
// It starts a server as the finding describes it, open, on loopback; includes
// the configuration and applies it the way its text says, by a reload or by a
// restart; and then comes to every door as a stranger, as those who have the
// secrets, and as those who have all but the secrets.
//
// The server is nats-server as it is built into this program, with folders of
// its own: nothing of the user's is read, but certificates that he names, and
// nothing is dialled but that server. It cannot know the rest of the user's
// configuration, nor a nats-server of another version.
package proof
