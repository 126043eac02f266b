package backend

// URIParser is a Backend whose keys have canonical URIs: the names that the key manager, its tools and other programs know
// them by, such as a PKCS#11 URI or an ARN. Its [Lister] says them in KeyInfo.URI. A URI says where a key is and never holds a
// secret that was not put there by whoever wrote it.
type URIParser interface {
	Backend

	// ParseURI returns the parameters of the key that uri names, for Open. What a URI doesn't say, above all the
	// credentials, is that of scope, which may be nil; the fields of scope about one key are ignored. A scope that is of
	// another place than uri is refused, so that credentials don't end up there. It makes no call.
	//
	// Parsing is strict and the result valid. The error wraps ErrInvalidParams, and shows no secret.
	ParseURI(uri string, scope Params) (Params, error)
}

// Matcher is a Backend that can tell which parameters are of keys that it reaches, where a program has several backends of
// one type: two sets of PKCS#11 libraries, a vault each.
type Matcher interface {
	Backend

	// Matches returns nil if params may be of a key of this backend, as far as that can be told without a call. The error
	// wraps ErrInvalidParams.
	Matches(params Params) error
}
