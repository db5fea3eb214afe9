// Package probe touches doors: it is the only package that dials them.
//
// A touch finds out whether a stranger gets in and does no harm. It is one
// connection, bounded in bytes and time, and closed at once; a client port
// that says that it asks nobody and refuses all the same is asked a second
// time, and so is a websocket of an older release. It guarantees that
//
//   - it never sends a credential, and no client certificate;
//   - every CONNECT carries a lang, on every door that speaks NATS. That is
//     what makes route, leafnode and gateway ports turn a stranger away with
//     an error that tells whether he had passed; without it a route port
//     loses its routes, and a leafnode port really lets him join;
//   - it never opens the websocket path /mqtt, and speaks MQTT only when it was
//     told to: that is the one touch that leaves something behind;
//   - beside that it creates nothing: the only thing it ever asks, once it was let in, is
//     who it is ($SYS.REQ.USER.INFO), and where that is refused, for
//     subjects that lead nowhere, to learn whether they are refused too;
//   - what is not a clear word of the server is not a verdict.
package probe
