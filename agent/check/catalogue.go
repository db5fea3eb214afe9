package check

// Catalogue lists every check, in the order in which reports and documents
// show them. The entries are shared and must not be changed.
func Catalogue() []*Check { return catalogue }

var catalogue = []*Check{
	door001, door002, door003, door004, door005, door006, door007, door008, door009,
	sess001, sess002, sess003, sess004, sess005,
	fleet001, fleet002, fleet003, fleet004, fleet005, fleet006, fleet007, fleet008,
	tls001, tls002, tls003, tls004, tls005, tls007,
	cred001, cred002, cred003, cred004, cred005,
	jwt001, jwt002, jwt003, jwt004, jwt005,
	jwt010, jwt011, jwt012, jwt013, jwt014, jwt015, jwt016, jwt017, jwt018, jwt019, jwt020, jwt021,
	jwt030, jwt031, jwt032, jwt033, jwt034,
	jwt040, jwt041,
	conf001, conf002, conf003, conf004, conf005, conf006, conf007, conf008, conf009, conf010,
	perm008,
	cve001,
	policy001,
}
