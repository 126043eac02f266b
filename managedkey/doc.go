// Package managedkey keeps managed keys: named entries that point at keys in external key managers, with the policy of
// who may do what with them.
//
// A program makes its backends, adds entries to a [Registry], and gets standard handles from it:
//
//	err := keys.Create(ctx, managedkey.Entry{Ref: ref, Backend: hsm, Params: params, AllowGenerateKey: true})
//	signer, err := keys.Signer(ctx, ref)
//	der, err := x509.CreateCertificate(rand.Reader, template, parent, leafPublicKey, signer)
//
// # Entries
//
// An [Entry] belongs to one namespace. It allows usages (sign and verify, if it names none), and switches say whether
// its key may be generated, replaced, imported, and used by every mount. Create makes no call: the key is opened when
// it is first used. From then on the entry is pinned to that public key and answers for no other; only Generate,
// Import and an Update that names the new pin replace it. Symmetric keys have no public key and so no pin.
//
// # Handles
//
// A [Key] is bound to one key and checks policy on each operation, so that handles that are out follow every change:
// usages that were taken away, grants that were revoked, entries that were deleted. Signer, Decrypter, KeyExchanger
// and Decapsulator return narrow values that are a crypto.Signer, a crypto.Decrypter, an ecdh.KeyExchanger or a
// crypto.Decapsulator and none of the others.
// [Key.WithContext] bounds the methods of these interfaces by a context.
//
// # Mounts
//
// An engine, such as a PKI, isn't given the registry but a [Mount], which reaches the keys of one namespace that were
// granted to it. Grants are between one mount and one entry, not between names: renaming the mount keeps them, and an
// entry that was deleted and made again has none. [Registry.CreateMount] says what kind of engine a mount is for, for programs that
// make engines of mounts rather than mounts for engines; package httpapi does.
//
// # Stores
//
// [NewRegistry] keeps entries, mounts and grants in memory. [Open] keeps them in a store, which is one file or a database
// that several processes share: each follows what the others change, its handles included. Entries in a store say which
// [Connection] they use.
//
// # Keys that exist
//
// [ParseURI] reads the canonical name of a key, such as a PKCS#11 URI or an ARN, and opens the key or makes an entry for it.
// [Registry.Discover] yields what a backend holds as entries. [EncodeEntry] and [Registry.DecodeEntry] write and read entries in
// the flat JSON form of the managed-keys API; [Registry.ImportManagedKeys] and [Registry.ImportExternalKeys] read those of Vault
// and OpenBao.
//
// # Observers
//
// An [Observer] sees every operation of every handle and every change of the registry, with who, what and how it went, and can
// refuse it: [Options] has one for [Open], [Registry.Observe] sets it. Packages audit and telemetry are observers. [ErrorClass]
// is what they say of errors.
//
// # Errors
//
// Every error is an *[Error] and wraps one of the sentinels of package backend.
package managedkey
