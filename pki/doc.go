// Package pki is a certificate authority whose keys are managed keys: they stay in the HSM or cloud service that holds
// them, and this package never learns which one that is.
//
// An [Engine] works on one [managedkey.Mount] and reaches only the keys that the mount was granted. From it come
// certificate authorities, each a [CA] that issues intermediates, leaves and revocation lists:
//
//	engine := pki.New(mount, nil)
//	root, err := engine.CreateRoot(ctx, "root-key", pki.CATemplate{
//		Subject:  pkix.Name{Organization: []string{"Example"}, CommonName: "Example Root"},
//		Validity: 10 * 365 * 24 * time.Hour,
//	})
//	issued, err := root.SignCSR(ctx, csr, pki.LeafTemplate{Validity: 90 * 24 * time.Hour})
//
// [OpenAuthority] is the level above: an [Authority] keeps issuers, roles, certificates and revocations in a store that
// processes share, knows of every certificate before it is signed, and makes CRLs whose numbers only grow.
//
// # What is signed
//
// Nothing that was not checked reaches the managed key. The bytes to be signed are built and signed with a throwaway key
// of the same kind; the outcome is linted (RFC 5280, RFC 5480, RFC 8813 and others, by zlint), and its path is validated
// by crypto/x509 up to the end of the issuer's chain, so that name constraints, path lengths and validity hold. Only
// then does the managed key sign exactly those bytes, with one call. The signature, the issuer and the bytes are
// checked again before anything is returned.
//
// Where a role's lint profile is off there is nothing to lint, and no throwaway signature, unless name constraints above must be
// looked at. Of a CRL with more than 1,000 entries, a list of 1,000 of them is linted that is the same otherwise.
//
// Signature algorithms are chosen from what the key can do ([backend.Capabilities]) before it is called.
//
// # What a request decides
//
// Of a certificate signing request, the public key and the subject alternative names are used, the latter unless the
// template has its own; for an intermediate also the subject, unless the template has one. Every other extension and
// attribute is ignored: a request can't make itself a CA or choose its key usages.
//
// # Errors
//
// Errors begin with "pki: ". They wrap [backend.ErrInvalidParams] for a request or template that is refused,
// [backend.ErrUnsupported] for an algorithm that a key doesn't have, [backend.ErrKeyChanged] if a key is no longer the
// one of the CA's certificate, [backend.ErrInvalidSignature] if a request's or the key manager's signature doesn't
// verify, and otherwise what the managed key returned. A lint refusal is a [*LintError], that of a role a [*RoleError].
package pki
