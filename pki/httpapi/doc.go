// Package httpapi serves certificate authorities of package pki over the HTTP API that the PKI engines of Vault and OpenBao have, so
// that their command lines, Go clients, cert-manager, Terraform providers and scripts work with it. [New] makes an engine for package
// managedkey/httpapi:
//
//	engine, err := pkihttp.New(store, nil)
//	api, err := httpapi.New(keys, &httpapi.Options{…, Engines: map[string]httpapi.Engine{"pki": engine}})
//
// A mount of that type then is an authority, whose state is in the store under the mount's id.
//
// # Paths
//
// Below the mount; :type is kms (managed_key_name or managed_key_id says which key), existing (key_ref), internal or exported, and :ref the id
// or name of an issuer, or "default". LIST of issuers and GET of what is marked * are for everybody.
//
//	POST                     root/generate/:type, issuers/generate/root/:type
//	POST                     root/rotate/:type, root/replace
//	POST                     root/sign-intermediate, issuer/:ref/sign-intermediate
//	POST                     root/sign-self-issued, issuer/:ref/sign-self-issued     with sudo
//	DELETE                   root                                                    with sudo: removes all issuers, and no managed key
//	POST                     intermediate/generate/:type, issuers/generate/intermediate/:type, intermediate/cross-sign
//	POST                     intermediate/set-signed, issuers/import/bundle, issuers/import/cert, config/ca
//	LIST                     issuers
//	GET, POST, PATCH, DELETE issuer/:ref
//	GET                      issuer/:ref/{json,der,pem} *, issuer/:ref/[unified-]crl[/delta][/der,/pem] *, issuer/:ref/crl/shard/:n[/delta] *
//	POST                     issuer/:ref/revoke, issuer/:ref/reissue
//	GET, POST, DELETE        issuer/:ref/ocsp-responder
//	POST                     issuer/:ref/resign-crls, issuer/:ref/sign-revocation-list  with sudo
//	LIST, POST               keys; keys/generate/:type, keys/import
//	GET, POST, DELETE        key/:ref
//	GET, POST                config/{issuers,keys,urls,crl,cluster,auto-tidy}; config/acme, which is off
//	LIST                     roles
//	GET, POST, PATCH, DELETE roles/:name
//	POST                     issue/:role, sign/:role, sign-verbatim[/:role], and the same below issuer/:ref/
//	POST                     revoke, revoke-with-key
//	LIST                     certs, certs/detailed, certs/revoked
//	GET                      cert/:serial[/raw[/pem]] *, cert/{ca,ca_chain,crl,delta-crl} *, ca[/pem] *, ca_chain *
//	GET                      [unified-]crl[/delta][/pem] *, crl/shard/:n[/delta] *
//	GET, POST                crl/rotate, crl/rotate-delta
//	POST, GET                [unified-]ocsp *, [unified-]ocsp/:request *
//	POST, GET                tidy, tidy-cancel; tidy-status
//
// # What differs from Vault's engine
//
// It is stricter, and says so: a field that is unknown, or that asks for what there isn't, is refused and not passed over. No
// CA has a key in software, so that the types internal and exported, keys/import, and private keys in the bundles of issuers/import/bundle
// and config/ca are refused, unless both program ([Options].Software) and mount ([OptionSoftwareKeys]) allow that, and the store is
// sealed, which keeps the private keys: every process that shares it signs with them, also after it was started again. DELETE of
// such a key takes it out of the store, of the managed keys, and of the memory of the processes, within [Options].Maintain. sign-verbatim
// takes [OptionVerbatim]. resign-crls and sign-revocation-list take sudo, since their lists can leave out what is revoked; a crl_number
// must be above all that the issuer's lists have had and is the next one if it isn't given, and extensions that change what a list
// is about are refused. A CA certificate has no subject alternative names, and none outlives its issuer. TTLs above max_ttl are
// refused, not cut. Other names of a CSR are taken where its names are, under allowed_other_sans, beside other_sans.
// A manual_chain must be one: each certificate signed by the next. What would break a rule of RFC 5280 is refused before anything is signed.
//
// Some fields are passed over, with a warning each: the steps of an intermediate, generate and sign-intermediate, take each other's, as
// the command lines' "pki issue" sends both the same. Certificates of CAs without a key here are imported to continue the chains of issuers,
// and are no issuers.
//
// It knows more: issuer/:ref/ocsp-responder has another managed key, named like a CA's, answer OCSP requests in place of the issuer's
// (pki.Authority.SetOCSPResponder; ttl, subject, signature_bits and use_pss are of its certificate, which is renewed by itself); revoke
// takes a reason; root/rotate answers with the certificates of both roots by each other; without auto_rebuild,
// certificates that were revoked are in the next CRL that anybody reads; config/crl has shards, ocsp_nonce, ocsp_store and
// ocsp_presign, as pki.CRLConfig and pki.OCSPConfig have them. Ids of keys are the SHA-256 hashes of their SubjectPublicKeyInfos.
// Processes share a store, so that every CRL is a unified one; they tell the same of a tidy, of which one runs at a time, and each can cancel it.
//
// What isn't there: ACME, EST, CMPv2, SCEP, external policies, leases.
//
// What an authority has in the store is removed with its mount, in the background: see pki.RemoveMount. Keys in software go as well; managed
// keys stay.
//
// # Errors
//
// A request that is wrong is answered 400, with the rule, the field and what it takes; 403 if the mount may not use the key or the
// issuer may not do that; 404 for an issuer, role or certificate that isn't there; 409 if somebody else was faster; and 503 while the
// key manager or store is away. No error has a private key in it.
package httpapi
