// Package httpapi serves a registry over the HTTP API of managed keys that Vault and OpenBao have, so that their command lines,
// Go clients, Terraform providers and scripts work with it. [API] is an http.Handler:
//
//	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Engines: engines})
//	server := httpapi.NewServer(api, tlsConfig)
//	err = server.ListenAndServeTLS("", "")
//
// # Paths
//
// All stand under /v1/, and every namespace has them: X-Vault-Namespace names it, or stands in front of the path, or both, and then
// the header comes first. LIST is a method, and so is GET with ?list=true; PUT is POST; PATCH is for engines, some of whose paths have
// it. Lists take after and limit.
//
//	LIST                    sys/managed-keys/:type                   names of the entries of a type
//	POST, GET, DELETE       sys/managed-keys/:type/:name             an entry, in the form of managedkey.EncodeEntry
//	POST                    sys/managed-keys/:type/:name/test/sign   sign and verify random data
//	GET                     sys/mounts                               all mounts of the namespace
//	POST, GET, DELETE       sys/mounts/:path                         a mount
//	POST, GET               sys/mounts/:path/tune                    description, options, config.allowed_managed_keys, lease times
//	POST                    sys/remount                              move a mount within its namespace; needs sudo
//	GET                     sys/remount/status/:id                   of the last 64 moves of this process
//	LIST                    sys/namespaces                           the namespaces directly below
//	POST, GET, DELETE       sys/namespaces/:path                     a namespace
//	GET                     sys/health, sys/seal-status, sys/leader, sys/init     for everybody
//	GET                     sys/metrics                              what Options.Metrics writes; of the root namespace
//	POST                    sys/capabilities-self                    what the caller may do with paths
//	GET                     sys/internal/ui/mounts[/:path]           what the caller may see of the mounts
//	GET, POST               auth/token/lookup-self                   who the caller is
//	POST                    auth/token/lookup                        the same, for the caller's own token
//	*                       :mount/…                                 the mount's engine
//
// An update of an entry says all of it: fields that are left out have their defaults, but secrets that are sent back as "redacted"
// stay what they are. Creating entries needs a registry with connections (managedkey.Open). Deleting what isn't there is a success,
// as it is elsewhere; GET answers 404.
//
// A secret that refers to an environment variable or a file of the server takes sudo, of somebody in the root namespace: whoever may write
// entries says where their secrets are sent.
//
// Namespaces need not be made: one is there as soon as it has an entry or a mount. POST makes one that is there without. Deleting
// is refused while anything is in it.
//
// A path that could be a namespace or a mount is that of the mount that is nearest to the root. Mounts are refused where there is a
// namespace and namespaces where there is a mount.
//
// # Who may do what
//
// An [Authenticator] says who asks: [Tokens], [Certificates] or one of your own; [AnyOf] joins them. An [Authorizer] says what they
// may do with which path: [Policies] or one of your own. Without them everybody is refused. An [Identity] belongs to a namespace
// and is confined to it and to those below.
//
// Requests that are answered with 401 or 403 are told to the registry's observer (managedkey.Denial): the first 20 of a client and then
// one a second, and the first 500 of all who are not known, and of all who are, and then 10 a second. How many more there were is told
// once a minute.
//
// # Requests
//
// A request that is wrong is refused before anything changes, with the statuses of the original: 400 for bad paths, headers and
// bodies, 403, 404, 405, 413 for a body and 414 for a path that is too long, 415 for one that is no JSON, 429 for too many and 503
// for too many at once. Bodies are one JSON object, without members that are unknown or given twice. X-Vault-Wrap-TTL is refused,
// since there is no response wrapping, and so is the parameter help; the parameter scan is 405. Paths are never cleaned and nothing is ever redirected: put the API in front of, not behind, an
// http.ServeMux, which does that.
//
// Responses and logs have no secrets in them: no token, PIN or body, and no stack of a panic.
package httpapi
