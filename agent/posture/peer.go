package posture

// Peer is another server that holds a connection to this one: a leafnode, or
// a member of its cluster or of its super-cluster.
type Peer struct {
	Door     DoorKind // Leafnode, Route or Gateway
	ID       string   // "" of leafnodes, which do not tell it
	Name     string   // as it calls itself; of gateways the name of their cluster
	IP       string
	Account  string // of leafnodes: the account here that they are bound to
	CID      uint64 // of leafnodes: their connection among the sessions
	Accepted Tri    // it has dialled, and this server has let it in; Unseen of routes. Of leafnodes: by the usual roles, which a remote with hub: true turns round
}
