// Package httpapi serves package transit over the HTTP API of the transit engines that Vault and OpenBao have, so that their clients
// work with it. [New] makes the engine of mounts of type transit for package managedkey/httpapi:
//
//	engine := transithttp.New(store, nil)
//	api, err := httpapi.New(keys, &httpapi.Options{Engines: map[string]httpapi.Engine{"transit": engine}, …})
//
// # Paths
//
// They stand below the path of the mount. PUT is POST.
//
//	LIST                keys                                    names; after and limit make pages
//	POST, GET, DELETE   keys/:name                              GET takes context for derived keys
//	POST                keys/:name/config, rotate, trim, import, import_version, csr, set-certificate, soft-delete-restore
//	DELETE, POST        keys/:name/soft-delete
//	GET                 wrapping_key
//	GET                 export/:type/:name[/:version]           a version is a number or latest; format is raw, der or pem
//	GET                 byok-export/:destination/:source[/:version]
//	GET                 backup/:name
//	POST                restore[/:name]
//	POST                encrypt/:name, decrypt/:name, rewrap/:name
//	POST                datakey/:type/:name, datakeys/:type/:name     type is plaintext or wrapped; the second takes count
//	POST                derivedkeys/:type/:name                 the same keys each time for a salt; see transit.Engine.DeriveDataKeys
//	POST                derive-key/:name                        ECDH, as OpenBao has it
//	POST                sign/:name[/:hash], verify/:name[/:hash], hmac/:name[/:hash], cmac/:name[/:length]
//	POST                hash[/:hash], random[/:source][/:bytes]
//	GET, POST           cache-config, config/keys
//
// Fields, answers and formats are those of the original. The random source managed_key, and all, take a transit key as the field key. The
// size of the cache is kept and means nothing.
//
// # Keys
//
// What a mount has in the store, software keys among it, is removed with the mount: see transit.RemoveMount.
//
// A key of type managed_key is made of the managed key that managed_key_name or managed_key_id names, which must be granted to the mount.
// Reading it shows its public key, and what its key manager and its entry let it do. It encrypts, signs and computes MACs there, or
// the answer says why it can't: no software key takes its place.
//
// All other types are software keys. They are made, by encrypting under an unknown name as well, imported and restored only in mounts
// that allow them; see [Options].
//
// # Batches
//
// Encryption, decryption, rewrapping, signatures and MACs take batch_input, and answer with batch_results in the same order, each with
// reference, and with error if it failed. When an item of the first three failed, the status is 400, or 500 if all errors are of this
// side; partial_failure_response_code replaces it, and the 200 of the others, if some items failed and others didn't. A batch that is
// malformed is refused as a whole, before anything is done, and the message names the item.
//
// # Errors
//
// What a client can do something about is answered with 400 and words that clients of the original look for; a key that isn't there with
// 404 where it is read or exported; a managed key without a grant or usage with 403; a key manager that is away with 503. All ciphertexts
// that can't be decrypted are answered alike. Fields that are unknown, given twice or of the wrong kind are errors; those of the
// original that have no meaning here are taken if they say nothing. Numbers and truth values may be strings, which command lines send.
// Base64 is standard and padded, and line breaks in it don't count. No answer quotes what was sent to be encrypted or signed.
package httpapi
